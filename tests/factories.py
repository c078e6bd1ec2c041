"""Makes small, valid, synthetic CT instances in memory: ``ct_dataset(PatientName="Doe^Jane", RescaleSlope=2)``."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

SIDE = 64
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.10.999"
IDENTITY: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SOPClassUID": CT_IMAGE,
    "SOPInstanceUID": f"{ROOT}.3.1",
    "StudyDate": "20240101",
    "SeriesDate": "20240101",
    "ContentDate": "20240101",
    "StudyTime": "101500",
    "SeriesTime": "101600",
    "ContentTime": "101700",
    "AccessionNumber": "A1",
    "Modality": "CT",
    "Manufacturer": "Synthetic",
    "ReferringPhysicianName": "",
    "SeriesDescription": "THORAX",
    "PatientName": "Test^Case",
    "PatientID": "T1",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "BodyPartExamined": "CHEST",
    "PatientPosition": "HFS",
    "StudyInstanceUID": f"{ROOT}.1",
    "SeriesInstanceUID": f"{ROOT}.2",
    "StudyID": "S1",
    "SeriesNumber": 3,
    "AcquisitionNumber": 1,
    "InstanceNumber": 1,
    "FrameOfReferenceUID": f"{ROOT}.4",
    "PositionReferenceIndicator": "",
}
IMAGE: dict[str, Any] = {
    "KVP": 120,
    "SliceThickness": 5.0,
    "ConvolutionKernel": "STANDARD",
    "ImagePositionPatient": [-32.0, -32.0, 0.0],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [1.0, 1.0],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "WindowCenter": 40,
    "WindowWidth": 400,
    "RescaleIntercept": -1024,
    "RescaleSlope": 1,
    "RescaleType": "HU",
}


def soft_tissue(seed: int = 0, side: int = SIDE) -> npt.NDArray[np.int16]:
    """Stored values of a noisy disc of water in air, for the default rescale."""
    y, x = np.mgrid[:side, :side] - side / 2
    disc = np.where(x**2 + y**2 < (0.45 * side) ** 2, 1024, 24)
    return (disc + np.random.default_rng(seed).normal(0, 20, disc.shape)).astype(np.int16)


def ct_dataset(pixels: npt.NDArray[Any] | None = None, **overrides: Any) -> FileDataset:
    """Return a valid CT instance; an override of None removes the attribute."""
    array = soft_tissue() if pixels is None else pixels
    dataset = Dataset()
    for keyword, value in {**IDENTITY, **IMAGE, "Rows": array.shape[0], "Columns": array.shape[1], **overrides}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.add_new("PixelData", "OW", array.tobytes())
    file = FileDataset("", dataset, b"\0" * 128, file_meta_of(dataset), is_implicit_VR=False)
    file.set_original_encoding(None, None)
    return file


def ct_series(
    count: int, spacing_mm: float = 1.0, pixels: npt.NDArray[Any] | None = None, **overrides: Any
) -> list[FileDataset]:
    """Return the slices of one series, from the feet to the head, each with its own noise, or all with these pixels."""
    return [
        ct_dataset(
            soft_tissue(seed=number) if pixels is None else pixels,
            **{
                "SOPInstanceUID": f"{ROOT}.3.{number}",
                "InstanceNumber": number,
                "ImagePositionPatient": [-32.0, -32.0, spacing_mm * number],
                **overrides,
            },
        )
        for number in range(1, count + 1)
    ]


def file_meta_of(dataset: Dataset, transfer_syntax: UID = ExplicitVRLittleEndian) -> FileMetaDataset:
    """Return file meta information for a data set, as far as it has an identity."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT_IMAGE)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", f"{ROOT}.3.1")
    meta.TransferSyntaxUID = transfer_syntax
    return meta


def part10(dataset: Dataset) -> bytes:
    """Return the DICOM File Format stream of a data set."""
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()
