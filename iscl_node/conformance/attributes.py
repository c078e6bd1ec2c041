"""What becomes of every attribute of a derived CT image, in one table: for readers, the conformance statement and the
tests, which hold each row against derived instances. What no row names is kept."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydicom.datadict import dictionary_description
from pydicom.tag import Tag

from iscl_node.dicom.deriving.inherited import DROPPED


class Treatment(StrEnum):
    """Where the value of an attribute comes from."""

    KEPT = "kept"
    """The very bytes of the source."""
    NEW = "new"
    """Written by the node; the source's value does not count."""
    APPENDED = "appended"
    """The items of the source, then one of the node."""
    REMOVED = "removed"


@dataclass(frozen=True)
class Row:
    """Attributes of one module (PS3.3) that are treated alike."""

    module: str
    keywords: tuple[str, ...]
    treatment: Treatment
    how: str


def named(keyword: str) -> str:
    """Return the name and the tag of an attribute, as the standard writes them."""
    tag = Tag(keyword)
    return f"{dictionary_description(tag)} {tag}"


def _row(module: str, treatment: Treatment, keywords: str, how: str = "") -> Row:
    return Row(module, tuple(keywords.split()), treatment, how)


CT_IMAGE: Final[tuple[Row, ...]] = (
    _row(
        "Patient (C.7.1.1)",
        Treatment.KEPT,
        "SpecificCharacterSet PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex OtherPatientNames "
        "OtherPatientIDsSequence PatientComments PatientIdentityRemoved DeidentificationMethod "
        "DeidentificationMethodCodeSequence",
        "byte for byte, in any Specific Character Set, also where the text is not valid in it",
    ),
    _row(
        "General Study (C.7.2.1), Patient Study (C.7.2.2)",
        Treatment.KEPT,
        "StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber StudyDescription ReferringPhysicianName "
        "ReferencedStudySequence PatientAge PatientSize PatientWeight",
        "byte for byte",
    ),
    _row(
        "General Series (C.7.3.1)",
        Treatment.NEW,
        "SeriesInstanceUID",
        "2.25 and a hash of the source's UID, the model's digest, the profile and the strength or its target: the same "
        "whenever and wherever it is made",
    ),
    _row(
        "General Series (C.7.3.1)",
        Treatment.NEW,
        "SeriesNumber",
        "1000 times the source's and 500 to 749, which depends on the UID, the model, the profile and the strength",
    ),
    _row(
        "General Series (C.7.3.1)",
        Treatment.NEW,
        "SeriesDescription",
        "the source's, cut to leave room, and the suffix of the rule, 64 characters at most",
    ),
    _row("General Series (C.7.3.1)", Treatment.NEW, "SeriesDate SeriesTime", "when work on the derived series started"),
    _row(
        "General Series (C.7.3.1)",
        Treatment.APPENDED,
        "RelatedSeriesSequence",
        'the source series, for (121323, DCM, "Source series for image processing operation")',
    ),
    _row(
        "General Series (C.7.3.1)",
        Treatment.KEPT,
        "Modality Laterality BodyPartExamined PatientPosition ProtocolName PerformedProcedureStepID "
        "PerformedProcedureStepStartDate PerformedProcedureStepStartTime PerformedProcedureStepDescription "
        "RequestAttributesSequence ReferencedPerformedProcedureStepSequence OperatorsName",
        "the node claims no procedure step of its own",
    ),
    _row(
        "Frame of Reference (C.7.4.1)",
        Treatment.KEPT,
        "FrameOfReferenceUID PositionReferenceIndicator",
        "every pixel stays at its place",
    ),
    _row(
        "General Equipment (C.7.5.1)",
        Treatment.KEPT,
        "Manufacturer InstitutionName StationName ManufacturerModelName DeviceSerialNumber SoftwareVersions "
        "PixelPaddingValue",
        "the scanner's; pixels that are padding keep their stored value, and no other pixel gets a padding value",
    ),
    _row(
        "Image Pixel (C.7.6.3)",
        Treatment.KEPT,
        "PixelPaddingRangeLimit SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored "
        "HighBit PixelRepresentation",
        "values are clipped to Bits Stored",
    ),
    _row(
        "Image Pixel (C.7.6.3)",
        Treatment.NEW,
        "PixelData",
        "round((HU - Rescale Intercept) / Rescale Slope); the source's stored value where the HU are the source's",
    ),
    _row(
        "Image Pixel (C.7.6.3)",
        Treatment.NEW,
        "SmallestImagePixelValue LargestImagePixelValue",
        "computed anew where the source has them",
    ),
    _row("General Image (C.7.6.1)", Treatment.NEW, "ImageType", "value 1 DERIVED, the others are the source's"),
    _row("General Image (C.7.6.1)", Treatment.NEW, "ContentDate ContentTime", "when the instance was made"),
    _row(
        "General Image (C.7.6.1)",
        Treatment.NEW,
        "DerivationDescription",
        "model, version, digest, profile, strength and how it was chosen, node and date, then the source's text, "
        "1024 characters at most",
    ),
    _row(
        "General Image (C.7.6.1), General Reference (C.12.4)",
        Treatment.APPENDED,
        "DerivationCodeSequence",
        '(113087, DCM, "Smoothing"), the nearest of CID 7203, which has no code for noise reduction',
    ),
    _row(
        "General Reference (C.12.4)",
        Treatment.NEW,
        "SourceImageSequence",
        'the source image, for (121322, DCM, "Source image for image processing operation"), Spatial Locations '
        "Preserved YES",
    ),
    _row(
        "General Image (C.7.6.1)",
        Treatment.KEPT,
        "InstanceNumber AcquisitionNumber AcquisitionDate AcquisitionTime AcquisitionDateTime BurnedInAnnotation "
        "LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod ImageComments",
        "a loss stays recorded: 01 stays 01, and is written where only the transfer syntax shows it, "
        "with its method, and with the length of the native pixels over that of the compressed ones as the ratio",
    ),
    _row(
        "Image Plane (C.7.6.2)",
        Treatment.KEPT,
        "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices SliceLocation",
    ),
    _row(
        "Contrast/Bolus (C.7.6.4)",
        Treatment.KEPT,
        "ContrastBolusAgent ContrastBolusVolume",
    ),
    _row(
        "CT Image (C.8.2.1)",
        Treatment.KEPT,
        "RescaleIntercept RescaleSlope RescaleType KVP XRayTubeCurrent Exposure ExposureTime FilterType "
        "ConvolutionKernel GantryDetectorTilt CTDIvol ScanOptions ReconstructionDiameter",
        "the acquisition's; the kernel is not renamed",
    ),
    _row(
        "VOI LUT (C.11.2)",
        Treatment.KEPT,
        "WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction VOILUTSequence",
    ),
    _row(
        "Overlay Plane (C.9.2)",
        Treatment.KEPT,
        "",
        "groups 6000 to 601E with Overlay Data; overlays in the bits of the pixels are removed",
    ),
    _row("SOP Common (C.12.1)", Treatment.KEPT, "SOPClassUID SyntheticData"),
    _row(
        "SOP Common (C.12.1)",
        Treatment.KEPT,
        "TimezoneOffsetFromUTC",
        "where the source has none, that of the setting derived.time_zone if it is right for the source's dates, too",
    ),
    _row(
        "SOP Common (C.12.1)",
        Treatment.NEW,
        "SOPInstanceUID",
        "2.25 and a hash of the source's UID, the model's digest, the profile and the strength or its target",
    ),
    _row(
        "SOP Common (C.12.1)",
        Treatment.NEW,
        "InstanceCreationDate InstanceCreationTime InstanceCreatorUID",
        "the node, and when it made the instance",
    ),
    _row(
        "SOP Common (C.12.1)",
        Treatment.NEW,
        "ContentQualification",
        "RESEARCH; PRODUCT only by the setting derived.content_qualification",
    ),
    _row(
        "SOP Common (C.12.1)",
        Treatment.APPENDED,
        "ContributingEquipmentSequence",
        'the node, for (109102, DCM, "Processing Equipment"), with its model\'s digest in Software Versions',
    ),
    _row("SOP Common (C.12.1)", Treatment.KEPT, "OriginalAttributesSequence"),
    _row(
        "Common Instance Reference (C.12.2)",
        Treatment.APPENDED,
        "ReferencedSeriesSequence",
        "the source series with the source image",
    ),
    *(_row("removed", Treatment.REMOVED, keyword, reason) for keyword, reason in DROPPED.items()),
    _row("removed", Treatment.REMOVED, "", "private elements that the setting derived.keep_private does not name"),
    _row("removed", Treatment.REMOVED, "", "group lengths and elements of the groups 0000 to 0006"),
    _row("removed", Treatment.REMOVED, "", "all of the groups 7F00 to 7FFE but the new Pixel Data"),
)
"""Every row is held against a derived instance by tests/dicom/test_attribute_table.py."""
