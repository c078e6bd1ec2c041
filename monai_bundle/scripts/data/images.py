"""Two-dimensional images from files: CT in DICOM, NIfTI volumes, 8-bit grey images (PNG, TIFF)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from nibabel.filebasedimages import ImageFileError
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.uid import RawDataStorage

NO_SPACING = (float("nan"), float("nan"))

PLACEHOLDERS = frozenset({"", "0", "none", "unknown", "anon", "anonymous", "anonymized", "anonymised"})
"""Patient IDs, in small letters, that tell nobody apart."""

DESCRIBING = [
    *("SOPClassUID", "Modality", "ImageType", "SeriesDescription", "PatientID", "InstanceNumber", "NumberOfFrames"),
    *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept"),
]
"""What is read of a DICOM header."""


@dataclass(frozen=True)
class Slice:
    """One image in a file, known but not read.

    Attributes
    ----------
    path : Path
        The file.
    patient : str
        Who it shows; empty where that cannot be told, see :func:`find_slices`.
    shape : (int, int)
        Rows and columns.
    index : int
        Number in a file that holds several: along the third axis of a NIfTI volume, page of a TIFF.
    spacing_mm : (float, float)
        Between rows and between columns, mm; NaN where unknown.
    place : tuple of float
        What tells the slices of a series apart: Image Position (Patient) in mm, or else the Instance Number.
    series : str
        Series Description.
    """

    path: Path
    patient: str
    shape: tuple[int, int]
    index: int = 0
    spacing_mm: tuple[float, float] = NO_SPACING
    place: tuple[float, ...] = ()
    series: str = ""


def find_slices(folder: str | Path) -> list[Slice]:
    """Every image below ``folder``, sorted by path; what is no image is left out.

    The kind is recognized by the file: ``.nii`` and ``.nii.gz`` are NIfTI, ``.png``, ``.tif`` and ``.tiff`` are 8-bit
    grey images, everything else is an image if it is DICOM of Modality CT, and neither a localizer nor projections.

    The patient is the Patient ID of the DICOM header. Without one (or with a placeholder such as
    "ANONYMOUS") it is the name of the folder inside ``folder``. For a file that lies in ``folder`` itself
    it is, for NIfTI, the file's name up to the first ``_`` (``L004_full.nii.gz`` is L004); for PNG and TIFF,
    the file's name (each section of a specimen stands for itself, as in the paper); for DICOM unknown.

    Raises
    ------
    ValueError
        If there is no image, or one that cannot be used (the message names it).
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder")
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file() and not path.name.startswith("."))
    slices = [each for path in files for each in slices_of(path, Path(folder))]
    if not slices:
        raise ValueError(f"{folder} holds no image (DICOM of Modality CT, NIfTI, PNG or TIFF)")
    return slices


def slices_of(path: Path, folder: Path) -> list[Slice]:
    """The images in one file below ``folder``; none if it is no image."""
    describe, _ = _kind(path)
    try:
        return describe(path, folder)
    except (OSError, ImageFileError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_slice(item: Slice) -> np.ndarray:
    """The image, (rows, columns), HU or grey values: uint8 or int16 where nothing is lost by it, otherwise float32.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    _, read = _kind(item.path)
    return read(item.path, item.index)


def read_hu(path: Path) -> np.ndarray:
    """One CT image in HU, (H, W) float32: stored values times slope plus intercept (PS3.3 C.11.1.1.2)."""
    dataset = pydicom.dcmread(path)
    stored = dataset.pixel_array.astype(np.float32)
    return stored * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)


def compact(image: np.ndarray, path: Path) -> np.ndarray:
    """The same values in 16 bits if all are whole and small enough, which HU nearly always are, otherwise float32."""
    if not np.isfinite(image).all():
        raise ValueError(f"{path} holds values that are not finite")
    limits = np.iinfo(np.int16)
    if image.min() >= limits.min and image.max() <= limits.max:
        whole = image.astype(np.int16)
        if np.array_equal(whole, image):
            return whole
    return image.astype(np.float32)


def _kind(path: Path) -> tuple[Callable[[Path, Path], list[Slice]], Callable[[Path, int], np.ndarray]]:
    """How images of the kind of this file are described and read."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _describe_nifti, _read_nifti
    if name.endswith((".png", ".tif", ".tiff")):
        return _describe_grey, _read_grey
    return _describe_ct, _read_ct


def _describe_ct(path: Path, folder: Path) -> list[Slice]:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=DESCRIBING)
    except InvalidDicomError:
        return []
    if not _is_ct_image(header):
        return []
    if "RescaleSlope" not in header or "RescaleIntercept" not in header or (header.get("NumberOfFrames") or 1) > 1:
        raise ValueError(f"{path} is no single CT slice with Rescale Slope and Intercept")
    patient = str(header.get("PatientID") or "").strip()
    if patient.lower() in PLACEHOLDERS:
        patient = _folder_below(folder, path)
    position, number = header.get("ImagePositionPatient"), header.get("InstanceNumber")
    place = [round(float(each), 2) for each in position] if position else [] if number is None else [float(number)]
    spacing = header.get("PixelSpacing") or NO_SPACING
    return [
        Slice(
            path,
            patient,
            (int(header.Rows), int(header.Columns)),
            spacing_mm=(float(spacing[0]), float(spacing[1])),
            place=tuple(place),
            series=str(header.get("SeriesDescription") or ""),
        )
    ]


def _is_ct_image(header: pydicom.Dataset) -> bool:
    """Whether this is a slice; DICOM-CT-PD, the format of projections, is Modality CT as well."""
    return (
        header.get("Modality") == "CT"
        and "Rows" in header
        and "LOCALIZER" not in (header.get("ImageType") or [])
        and header.get("SOPClassUID") != RawDataStorage
        and "projections" not in str(header.get("SeriesDescription") or "").lower()
    )


def _read_ct(path: Path, _: int) -> np.ndarray:
    return compact(read_hu(path), path)


def _describe_nifti(path: Path, folder: Path) -> list[Slice]:
    header = nibabel.load(path)
    if len(header.shape) not in (2, 3):
        raise ValueError(f"{path} is of {len(header.shape)} dimensions, must be of 2 or 3")
    patient = _folder_below(folder, path) or path.name.split(".")[0].split("_")[0]
    rows, columns, count = (*header.shape, 1)[:3]
    spacing = tuple(float(each) for each in header.header.get_zooms()[:2])
    return [Slice(path, patient, (rows, columns), index, spacing, (float(index),)) for index in range(count)]


def _read_nifti(path: Path, index: int) -> np.ndarray:
    return _volume(path)[:, :, index]


@lru_cache(maxsize=2)  # slices of a volume are read one after the other, those of a pair in turns
def _volume(path: Path) -> np.ndarray:
    return compact(np.atleast_3d(np.asanyarray(nibabel.load(path).dataobj)), path)


def _describe_grey(path: Path, folder: Path) -> list[Slice]:
    with Image.open(path) as image:
        if image.mode != "L":
            raise ValueError(f"{path} is no 8-bit grey image (Pillow's mode is {image.mode}, not L)")
        columns, rows = image.size
        count = getattr(image, "n_frames", 1)
    patient = _folder_below(folder, path) or path.stem
    return [Slice(path, patient, (rows, columns), index, place=(float(index),)) for index in range(count)]


def _read_grey(path: Path, index: int) -> np.ndarray:
    with Image.open(path) as image:
        image.seek(index)
        return np.array(image)


def _folder_below(folder: Path, path: Path) -> str:
    """Name of the folder inside ``folder`` that holds ``path``; empty for a file in ``folder`` itself."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""
