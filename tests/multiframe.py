"""Makes small, valid Enhanced CT and Legacy Converted Enhanced CT instances: ``enhanced_ct(3, BitsStored=12)``."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from factories import IDENTITY, ROOT, SIDE, ct_series, file_meta_of, part10, soft_tissue
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
FRAME_TYPE = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
DIMENSIONS = f"{ROOT}.5"

NOT_IN_ENHANCED_CT = ("AcquisitionNumber", "BodyPartExamined")
WHOLE: dict[str, Any] = {
    "SOPClassUID": ENHANCED_CT,
    "SOPInstanceUID": f"{ROOT}.30",
    "SeriesInstanceUID": f"{ROOT}.31",
    "ImageType": FRAME_TYPE,
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "AcquisitionDateTime": "20240101101600",
    "AcquisitionDuration": 2.5,
    "ContentQualification": "PRODUCT",
    "ManufacturerModelName": "Phantom",
    "DeviceSerialNumber": "1",
    "SoftwareVersions": "1",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
    "AcquisitionContextSequence": [],
}
SHARED: dict[str, dict[str, Any]] = {
    "PixelMeasuresSequence": {"PixelSpacing": [0.8, 0.8], "SliceThickness": 5.0},
    "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    "FrameVOILUTSequence": {"WindowCenter": 40, "WindowWidth": 400},
    "PixelValueTransformationSequence": {"RescaleIntercept": -1024, "RescaleSlope": 1, "RescaleType": "HU"},
    "CTImageFrameTypeSequence": {
        "FrameType": FRAME_TYPE,
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
    },
    "IrradiationEventIdentificationSequence": {"IrradiationEventUID": f"{ROOT}.6"},
    "CTAcquisitionTypeSequence": {
        "AcquisitionType": "SPIRAL",
        "ConstantVolumeFlag": "NO",
        "FluoroscopyFlag": "NO",
    },
    "CTAcquisitionDetailsSequence": {
        "RotationDirection": "CW",
        "RevolutionTime": 0.5,
        "SingleCollimationWidth": 0.6,
        "TotalCollimationWidth": 38.4,
        "TableHeight": 150.0,
        "GantryDetectorTilt": 0.0,
        "DataCollectionDiameter": 500.0,
    },
    "CTTableDynamicsSequence": {"TableSpeed": 20.0, "TableFeedPerRotation": 38.4, "SpiralPitchFactor": 1.0},
    "CTGeometrySequence": {"DistanceSourceToDetector": 1000.0, "DistanceSourceToDataCollectionCenter": 500.0},
    "CTReconstructionSequence": {
        "ReconstructionAlgorithm": "FILTER_BACK_PROJ",
        "ConvolutionKernel": "B30f",
        "ConvolutionKernelGroup": "SOFT_TISSUE",
        "ImageFilter": "NONE",
        "ReconstructionDiameter": 51.2,
        "ReconstructionAngle": 360.0,
        "ReconstructionPixelSpacing": [0.8, 0.8],
    },
    "CTExposureSequence": {
        "ExposureTimeInms": 500.0,
        "XRayTubeCurrentInmA": 120.4,
        "ExposureInmAs": 60.2,
        "ExposureModulationType": "NONE",
        "CTDIvol": 3.2,
        "CTDIPhantomTypeCodeSequence": {
            "CodeValue": "113691",
            "CodingSchemeDesignator": "DCM",
            "CodeMeaning": "IEC Body Dosimetry Phantom",
        },
    },
    "CTXRayDetailsSequence": {
        "KVP": 120.0,
        "FocalSpots": 0.7,
        "FilterType": "NONE",
        "FilterMaterial": "ALUMINUM",
        "CalciumScoringMassFactorDevice": [0.7, 0.7, 0.7],
    },
}


def item(**attributes: Any) -> Dataset:
    """Return a data set; a dictionary becomes a sequence of one item."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, Items([item(**value)]) if isinstance(value, dict) else value)
    return dataset


def per_frame_groups(number: int) -> dict[str, dict[str, Any]]:
    """Return what is the frame's own, with its number from 1."""
    return {
        "FrameContentSequence": {
            "FrameAcquisitionNumber": 1,
            "FrameReferenceDateTime": "20240101101600",
            "FrameAcquisitionDateTime": "20240101101600",
            "FrameAcquisitionDuration": 500.0,
            "StackID": "1",
            "InStackPositionNumber": number,
            "DimensionIndexValues": [1, number],
        },
        "PlanePositionSequence": {"ImagePositionPatient": [-25.6, -25.6, 1.0 * number]},
        "CTPositionSequence": {
            "TablePosition": 1.0 * number,
            "DataCollectionCenterPatient": [0.0, 0.0, 1.0 * number],
            "ReconstructionTargetCenterPatient": [0.0, 0.0, 1.0 * number],
        },
        "FrameAnatomySequence": {
            "FrameLaterality": "U",
            "AnatomicRegionSequence": {
                "CodeValue": "816094009",
                "CodingSchemeDesignator": "SCT",
                "CodeMeaning": "Chest",
            },
        },
    }


def dimensions() -> dict[str, Any]:
    """Return the Multi-frame Dimension Module of a stack (PS3.3 C.7.6.17)."""
    indices = (0x00209056, 0x00209057)  # Stack ID and In-Stack Position Number, of Frame Content
    return {
        "DimensionOrganizationSequence": {"DimensionOrganizationUID": DIMENSIONS},
        "DimensionIndexSequence": [
            item(DimensionOrganizationUID=DIMENSIONS, DimensionIndexPointer=index, FunctionalGroupPointer=0x00209111)
            for index in indices
        ],
    }


def enhanced_ct(
    count: int = 3,
    pixels: npt.NDArray[Any] | None = None,
    shared: dict[str, dict[str, Any]] | None = None,
    per_frame: Sequence[dict[str, dict[str, Any]]] = (),
    **overrides: Any,
) -> FileDataset:
    """Return a valid Enhanced CT instance.

    Parameters
    ----------
    count : int
        Frames.
    pixels : array, shape (count, H, W)
        Stored values; a noisy disc of water for each frame if None.
    shared, per_frame : dictionaries of functional groups
        They replace those of the same name; a frame's own group replaces the shared one.
    overrides
        Attributes at the top level; None removes one.
    """
    array = np.stack([soft_tissue(number, SIDE) for number in range(count)]) if pixels is None else pixels
    whole = {**IDENTITY, **WHOLE, **dimensions(), "NumberOfFrames": count, "Rows": array.shape[1]}
    own = [{**per_frame_groups(index + 1), **(per_frame[index] if per_frame else {})} for index in range(count)]
    common = {key: value for key, value in {**SHARED, **(shared or {})}.items() if not any(key in each for each in own)}
    dataset = item(
        **{
            key: value
            for key, value in {**whole, "Columns": array.shape[2], **overrides}.items()
            if value is not None and key not in NOT_IN_ENHANCED_CT
        }
    )
    dataset.SharedFunctionalGroupsSequence = Items([item(**common)])
    dataset.PerFrameFunctionalGroupsSequence = Items([item(**each) for each in own])
    dataset.add_new("PixelData", "OW", array.tobytes())
    file = FileDataset("", dataset, b"\0" * 128, file_meta_of(dataset), is_implicit_VR=False)
    file.set_original_encoding(None, None)
    return file


def legacy_ct(count: int = 3, **overrides: Any) -> FileDataset:
    """Return a conversion by highdicom of a synthetic series of CT Images, read back from its bytes."""
    return converted(ct_series(count, **overrides))


def converted(series: Sequence[Dataset]) -> FileDataset:
    """Return a conversion by highdicom of CT Images, read back from its bytes."""
    made = LegacyConvertedEnhancedCTImage(
        series,
        series_instance_uid=f"{ROOT}.32",
        series_number=7,
        sop_instance_uid=f"{ROOT}.33",
        instance_number=1,
    )
    return dcmread(BytesIO(part10(made)))
