"""Can the attributes that the node looks at, or replaces, be read, and are they of the kind they should be?

An element is decoded only when it is asked for, and what decodes it raises almost anything on foreign bytes; a value
representation that is written explicitly may turn a number into text, or a sequence into either. Here that is found out
once, when a file is read, so that all others may take the values for what the dictionary (PS3.6) says. Elements that
are not used are kept as they are, however wrong.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from pydicom.charset import convert_encodings, default_encoding, encode_string
from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from iscl_node.errors import OutsideBytesError, QuarantineSeriesError, outside_bytes

IMAGE: Final = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PixelPresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("RescaleType", "ImageType", "MultienergyCTAcquisition", "ConcatenationUID", "LossyImageCompression"),
    *("LossyImageCompressionRatio", "LossyImageCompressionMethod", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "InstanceNumber", "RealWorldValueMappingSequence"),
    *("MeasurementUnitsCodeSequence", "CodeValue"),
)
IDENTITY: Final = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime"),
    *("InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "TimezoneOffsetFromUTC"),
    *("BodyPartExamined", "Laterality", "SpecificCharacterSet", "ContentQualification", "DerivationDescription"),
    *("DerivationCodeSequence", "SourceImageSequence", "SourceImageEvidenceSequence", "ReferencedSeriesSequence"),
    *("ReferencedInstanceSequence", "RelatedSeriesSequence", "ContributingEquipmentSequence", "ManufacturerModelName"),
)
FUNCTIONAL_GROUPS: Final = (
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence"),
    *("PlanePositionSequence", "PlaneOrientationSequence", "FrameVOILUTSequence", "PixelValueTransformationSequence"),
    *("FrameAnatomySequence", "CTImageFrameTypeSequence", "FrameType", "CTAcquisitionTypeSequence"),
    *("CTAcquisitionDetailsSequence", "CTTableDynamicsSequence", "CTPositionSequence", "CTGeometrySequence"),
    *("CTReconstructionSequence", "CTExposureSequence", "CTXRayDetailsSequence", "DerivationImageSequence"),
    *("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence"),
    *("XRayTubeCurrentInmA", "ExposureTimeInms", "ExposureInmAs"),
)
OF_ANY_KIND: Final = frozenset(map(Tag, ("PixelPaddingValue", "PixelPaddingRangeLimit")))
"""They are found written as words, too, and understood."""
LOOKED_AT: Final = OF_ANY_KIND.union(map(Tag, (*IMAGE, *IDENTITY, *FUNCTIONAL_GROUPS)))

KINDS: Final = (
    frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}),
    frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}),
    frozenset({"SQ"}),
)
"""Value representations that may stand for each other: texts, numbers, sequences."""

_SPECIFIC_CHARACTER_SET: Final = Tag("SpecificCharacterSet")
_DEEPEST: Final = 8
"""Sequences in one another in which something is looked for; those of the standard that are looked at are four."""


def check_legible(dataset: Dataset) -> None:
    """Make sure that what the node looks at can be read; the data set is not changed.

    Raises
    ------
    QuarantineSeriesError
        Naming the first attribute that cannot.
    """
    _check(dataset, _DEEPEST)


def texts(dataset: Dataset, keyword: str | BaseTag) -> tuple[str, str]:
    """Return an attribute as text, and its bytes as such, both without blanks around; the data set is not changed.

    What cannot be decoded, for example for its character set, is its bytes twice; what is absent is empty.
    """
    element = dataset.get_item(Tag(keyword))
    if not isinstance(element, RawDataElement):
        text = _stripped(getattr(element, "value", None))
        return text, text
    raw = _stripped((element.value or b"").decode("latin-1"))
    decoded = value_of(dataset, element.tag)
    return raw if decoded is None else _stripped(decoded.value), raw


def value_of(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """Return an element decoded; None where it is absent or cannot be. The data set is not changed."""
    with suppress(OutsideBytesError), outside_bytes():
        return _decoded(dataset, tag) if tag in dataset else None
    return None


def _stripped(value: object) -> str:
    return "" if value is None else str(value).strip(" \0")


def _check(dataset: Dataset, levels: int) -> None:
    for element in _looked_at(dataset):
        expected = dictionary_VR(element.tag)
        if element.tag not in OF_ANY_KIND and not any(element.VR in kind and expected in kind for kind in KINDS):
            raise QuarantineSeriesError(f"{_name(element.tag)} is written as {element.VR} instead of {expected}")
        if expected == "SQ" and levels:
            for item in element.value:
                _check(item, levels - 1)


def _looked_at(dataset: Dataset) -> Iterator[DataElement]:
    for tag in sorted(LOOKED_AT.intersection(dataset.keys())):
        try:
            with outside_bytes():
                element = _decoded(dataset, tag)
        except OutsideBytesError as error:
            raise QuarantineSeriesError(f"{_name(tag)} cannot be read ({error})") from error
        yield element


def _name(tag: BaseTag) -> str:
    return f"the attribute {dictionary_description(tag)} {tag}"


def _decoded(dataset: Dataset, tag: BaseTag) -> DataElement:
    """Decode an element without keeping its value: what is not changed is written as the bytes that it was."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        encoding = default_encoding if tag == _SPECIFIC_CHARACTER_SET else dataset.original_character_set
        element = convert_raw_data_element(element, encoding=encoding, ds=dataset)
    if tag == _SPECIFIC_CHARACTER_SET:
        encode_string("a", convert_encodings(element.value))  # a codec of Python that is none of texts raises
    return element
