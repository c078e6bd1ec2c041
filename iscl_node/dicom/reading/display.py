"""What is shown of a series to people: what it is, its slices in their order, and their pixels in HU."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from iscl_node.dicom.reading.folder import DEFERRED_SIZE, read_instance
from iscl_node.dicom.reading.frames import frames, is_multiframe
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.reading.volume import Slice, to_hu
from iscl_node.domain import CT_STORAGE
from iscl_node.errors import IsclNodeError, outside_bytes

IDENTITY: Final = ("patient_name", "patient_id", "birth_date", "accession_number", "study_date")
"""The fields of :class:`SeriesDescription` that identify the patient; the others do not."""

_KEYWORDS: Final = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "birth_date": "PatientBirthDate",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
    "description": "SeriesDescription",
    "number": "SeriesNumber",
    "body_part": "BodyPartExamined",
    "protocol": "ProtocolName",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "station": "StationName",
    "kernel": "ConvolutionKernel",
    "kv": "KVP",
    "slice_thickness_mm": "SliceThickness",
}
_ORDERING: Final = [
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
]
_LONGEST: Final = 200


@dataclass(frozen=True)
class SeriesDescription:
    """What the header of one instance says of its series, as text; empty where it says nothing."""

    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_description: str = ""
    description: str = ""
    number: str = ""
    body_part: str = ""
    protocol: str = ""
    manufacturer: str = ""
    model: str = ""
    station: str = ""
    kernel: str = ""
    kv: str = ""
    slice_thickness_mm: str = ""
    sender: str = ""
    """AE title of who sent it (PS3.10 7.1)."""

    @property
    def scanner(self) -> str:
        """Manufacturer, model and station."""
        return " ".join(each for each in (self.manufacturer, self.model, self.station) if each)


@dataclass(frozen=True)
class SlicePlace:
    """Where a slice lies: its file and, in a multi-frame CT, its frame, from 0."""

    path: Path
    sop_instance_uid: str
    frame: int = 0


@dataclass(frozen=True)
class SliceForm:
    """What a viewer must know of a series: ``spacing_mm`` between rows and columns, ``window`` centre and width, HU."""

    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    window: tuple[float, float] | None


def read_description(path: Path) -> SeriesDescription:
    """Describe the series of an instance; empty if it cannot be read."""
    with suppress(IsclNodeError), outside_bytes():
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SpecificCharacterSet", *_KEYWORDS.values()])
        told = {name: _text(header, keyword) for name, keyword in _KEYWORDS.items()}
        return SeriesDescription(**told, sender=_text(header.file_meta, "SourceApplicationEntityTitle"))
    return SeriesDescription()


def without_identity(description: SeriesDescription) -> SeriesDescription:
    """The same without what identifies the patient."""
    kept = {each.name: getattr(description, each.name) for each in fields(description) if each.name not in IDENTITY}
    return SeriesDescription(**kept)


def provenance_of(path: Path) -> dict[str, str]:
    """What a derived instance says of how it was made; empty if it cannot be read."""
    with suppress(IsclNodeError), outside_bytes():
        header = dcmread(path, stop_before_pixels=True)
        return {
            "description": _text(header, "SeriesDescription"),
            "derivation": _text(header, "DerivationDescription", 1024),
            "content_qualification": _text(header, "ContentQualification"),
            "sop_class_uid": _text(header, "SOPClassUID"),
        }
    return {}


def slice_places(paths: Iterable[Path]) -> list[SlicePlace]:
    """The slices of the CT images among these files, in the order of their positions, or of their numbers."""
    placed = []
    for path in paths:
        with suppress(IsclNodeError), outside_bytes():
            placed += _placed(path)
    if any(position is None for position, _, _ in placed):
        return [place for _, _, place in sorted(placed, key=lambda each: (each[1], each[2].sop_instance_uid))]
    return [place for _, _, place in sorted(placed, key=lambda each: (each[0] or 0.0, each[1]))]


def form_of(place: SlicePlace) -> SliceForm:
    """What a viewer must know.

    Raises
    ------
    QuarantineSeriesError, OutsideBytesError
        It cannot be read.
    OSError
        It is not there.
    """
    with outside_bytes(OSError):
        view = _view(place)
        row, column = numbers(view, "PixelSpacing", 2) or (1.0, 1.0)
        center, width = (_first(view, keyword) for keyword in ("WindowCenter", "WindowWidth"))
        window = (center, width) if center is not None and width is not None and width >= 1 else None
        return SliceForm(int(view.Rows), int(view.Columns), (row, column), window)


def shown_hu(place: SlicePlace) -> Slice:
    """The slice in Hounsfield units, shape (H, W).

    Raises
    ------
    QuarantineSeriesError, OutsideBytesError
        The pixels cannot be decoded.
    OSError
        The file is not there.
    """
    with outside_bytes(OSError):
        return to_hu(_view(place))


def as_int16(hu: Slice) -> bytes:
    """Whole HU, row by row, 16 bits, little-endian; what does not fit is the nearest that does."""
    return np.clip(np.rint(np.nan_to_num(hu)), -32768, 32767).astype("<i2").tobytes()


def _placed(path: Path) -> list[tuple[float | None, float, SlicePlace]]:
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(_ORDERING))
    if header.SOPClassUID not in CT_STORAGE:
        return []
    views: Sequence[Dataset] = [header]
    if is_multiframe(header):
        views = frames(dcmread(path, defer_size=DEFERRED_SIZE))
    uid = str(header.SOPInstanceUID)
    return [
        (_position_mm(view), _first(view, "InstanceNumber") or float(index), SlicePlace(path, uid, index))
        for index, view in enumerate(views)
    ]


def _position_mm(view: Dataset) -> float | None:
    """Along the normal of the slice (PS3.3 C.7.6.2.1.1)."""
    orientation, corner = numbers(view, "ImageOrientationPatient", 6), numbers(view, "ImagePositionPatient", 3)
    if orientation is None or corner is None:
        return None
    return float(np.dot(np.cross(orientation[:3], orientation[3:]), corner))


def _view(place: SlicePlace) -> Dataset:
    return frames(read_instance(place.path))[place.frame]


def _first(view: Dataset, keyword: str) -> float | None:
    value: Any = view.get(keyword)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = next(iter(value), None)
    with suppress(TypeError, ValueError):
        return float(value)
    return None


def _text(header: Dataset, keyword: str, longest: int = _LONGEST) -> str:
    value = header.get(keyword)
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ", ".join(map(str, value))
    return str(value).strip()[:longest]


def source_uid_of(path: Path) -> str:
    """SOP Instance UID of the source of a derived CT image (PS3.3 C.7.6.1.1.4); empty if it is not there."""
    with suppress(IsclNodeError), outside_bytes():
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SourceImageSequence"])
        return str(header.SourceImageSequence[0].ReferencedSOPInstanceUID)
    return ""
