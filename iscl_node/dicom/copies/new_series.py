"""Builds a CT series from a volume that came without DICOM attributes: what is not known stays empty."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from iscl_node import __version__
from iscl_node.dicom.deriving.writing import as_file, set_pixels
from iscl_node.domain import CT_IMAGE_STORAGE

Volume = npt.NDArray[np.int16]

_FROM_THE_FRONT_AND_THE_RIGHT: Final = [1, 0, 0, 0, 1, 0]
"""Image Orientation (Patient) of rows that run to the patient's left and columns that run to the back."""


@dataclass(frozen=True)
class NewSeries:
    """What is known of a volume.

    Parameters
    ----------
    volume_hu : int16 array, shape (S, H, W)
        Hounsfield units, from the feet to the head, from the front to the back, from the right to the left.
    spacing_mm : tuple of float
        Distance of slices, of rows, of columns, in mm.
    patient_name, patient_id : str
        As in Patient Name and Patient ID.
    body_part : str
        A defined term of PS3.16 Annex L, for example ``HEAD``.
    description : str
        Study and Series Description, at most 64 characters.
    """

    volume_hu: Volume
    spacing_mm: tuple[float, float, float]
    patient_name: str
    patient_id: str
    body_part: str
    description: str

    def uid(self, role: str) -> UID:
        """Compute a UID (PS3.5 B.2): the same for the same volume, patient and role."""
        name = "\n".join(("iscl-node new series", self.patient_id, role, self._volume_digest))
        return UID(f"2.25.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], 'big')}")

    @cached_property
    def _volume_digest(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.volume_hu).data).hexdigest()


def new_series(series: NewSeries) -> Iterator[FileDataset]:
    """Build the CT Image Storage instances of a volume, from the feet to the head.

    Yields
    ------
    FileDataset
        With file meta information, native Explicit VR Little Endian, ready for ``derived.encode``.
    """
    shared = _shared(series)
    for index, slice_hu in enumerate(series.volume_hu):
        dataset = Dataset({tag: shared[tag] for tag in shared.keys()})  # noqa: SIM118 - iterating gives elements
        _set_slice(dataset, series, index, slice_hu)
        yield as_file(dataset, __version__)


def _shared(series: NewSeries) -> Dataset:
    return _dataset(**_patient_and_study(series), **_series_and_equipment(series), **_image(series))


def _dataset(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _patient_and_study(series: NewSeries) -> dict[str, Any]:
    return {
        "PatientName": series.patient_name,
        "PatientID": series.patient_id,
        "PatientBirthDate": "",
        "PatientSex": "",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "The volume came without any attribute of its patient",
        "StudyInstanceUID": series.uid("study"),
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "1",
        "StudyDescription": series.description,
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
    }


def _series_and_equipment(series: NewSeries) -> dict[str, Any]:
    return {
        "Modality": "CT",
        "SeriesInstanceUID": series.uid("series"),
        "SeriesNumber": 1,
        "SeriesDescription": series.description,
        "BodyPartExamined": series.body_part,
        "PatientPosition": "HFS",
        "FrameOfReferenceUID": series.uid("frame of reference"),
        "PositionReferenceIndicator": "",
        "Manufacturer": "",
    }


def _image(series: NewSeries) -> dict[str, Any]:
    """Return what the images share; a stored value is a value in HU."""
    return {
        "SOPClassUID": CT_IMAGE_STORAGE,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ContentDate": "",
        "ContentTime": "",
        "AcquisitionNumber": 1,
        "KVP": None,
        "SliceThickness": series.spacing_mm[0],
        "PixelSpacing": list(series.spacing_mm[1:]),
        "ImageOrientationPatient": _FROM_THE_FRONT_AND_THE_RIGHT,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": series.volume_hu.shape[1],
        "Columns": series.volume_hu.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "WindowCenter": 40,
        "WindowWidth": 400,
    }


def _set_slice(dataset: Dataset, series: NewSeries, index: int, slice_hu: npt.NDArray[np.int16]) -> None:
    between, rows, columns = series.spacing_mm
    height, width = slice_hu.shape
    dataset.SOPInstanceUID = series.uid(f"instance {index}")
    dataset.InstanceNumber = index + 1
    corner = (-columns * (width - 1) / 2, -rows * (height - 1) / 2, between * index)
    dataset.ImagePositionPatient = [round(coordinate, 4) for coordinate in corner]
    set_pixels(dataset, slice_hu.astype(np.int32))
