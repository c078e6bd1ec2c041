"""A small LDCT-and-Projection-data as the NBIA Data Retriever downloads it: collection/patient/study/series/file."""

from pathlib import Path

from image_files import write_ct
from pydicom.uid import RawDataStorage

COLLECTION = Path("manifest-1648648375084") / "LDCT-and-Projection-data"


def write_patient(tree: Path, patient: str, low: bool = True, slices: int = 2, full_first: int = 1) -> Path:
    """Images and projections of one patient in two studies; ``full_first`` is the first full dose slice's number."""
    folder = tree / COLLECTION / patient
    images, projections = folder / "12-23-2021-NA-NA-40641", folder / "08-21-2018-NA-NA-10971"
    _write_series(images / "1.000000-Full Dose Images-63186", patient, "Full Dose Images", full_first, slices)
    if low:
        _write_series(images / "1.000000-Low Dose Images-39882", patient, "Low Dose Images", 1, slices)
    for dose in ("Full", "Low"):
        for number in range(2):
            write_ct(
                projections / f"1.000000-{dose} dose projections-24362" / f"1-{number + 1:05d}.dcm",
                PatientID=patient,
                SeriesDescription=f"{dose} dose projections",
                SOPClassUID=RawDataStorage,
            )
    return folder


def _write_series(folder: Path, patient: str, description: str, first: int, count: int) -> None:
    low = description.startswith("Low")
    for number in range(first, first + count):
        write_ct(
            # The number in the name and the Instance Number run against the position in one series: neither counts.
            folder / f"1-{(100 - number) if low else number:03d}.dcm",
            seed=1000 * low + number,
            PatientID=patient,
            SeriesDescription=description,
            InstanceNumber=100 - number if low else number,
            ImagePositionPatient=[-150, -150, -3.0 * number],
        )
