"""What is written otherwise than it is meant, and can be meant in one way only: corrected when a file is read.

No module after this one needs to know. Texts stay the bytes that they were.
"""

import re
from typing import Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from iscl_node.dicom.reading.legible import LOOKED_AT, OF_ANY_KIND
from iscl_node.dicom.reading.representation import as_of_the_standard, has_another

CODES: Final = tuple(
    map(
        Tag,
        (
            *("PhotometricInterpretation", "PixelPresentation", "Modality", "ImageType", "RescaleType"),
            *("LossyImageCompression", "BurnedInAnnotation", "MultienergyCTAcquisition", "BodyPartExamined"),
        ),
    )
)
"""Codes that are looked at: blanks around their values mean nothing (PS3.5 6.2)."""
DECIMALS: Final = (Tag("RescaleSlope"), Tag("RescaleIntercept"))

_DECIMAL_COMMA: Final = re.compile(rb"[ +-]*\d*,\d*(?:[eE][+-]?\d+)? *\0?")
_OF_THOUSANDS: Final = re.compile(rb"[ +-]*[1-9]\d{0,2},\d{3} *\0?")
_NATIVE: Final = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


def correct(instance: FileDataset) -> None:
    """Correct a data set that was just read.

    File meta information is advice, the encoding of the data set decides; elements of the groups below 0008, which have
    no place in a data set, go; blanks around codes go; a comma in Rescale is a point, unless it may part thousands.
    What is looked at has the standard's value representation where its value can.
    """
    for tag in [tag for tag in instance.keys() if tag.group < 0x0008]:  # noqa: SIM118 - iterating gives elements
        del instance[tag]
    _correct_syntax(instance)
    for tag in (LOOKED_AT - OF_ANY_KIND).intersection(instance.keys()):
        _correct_representation(instance, tag)
    for tag in CODES:
        _replace(instance, tag, b"\\".join(part.strip() for part in _raw(instance, tag).split(b"\\")))
    for tag in DECIMALS:
        value = _raw(instance, tag)
        is_ambiguous = tag == Tag("RescaleIntercept") and _OF_THOUSANDS.fullmatch(value)
        if _DECIMAL_COMMA.fullmatch(value) and not is_ambiguous:
            _replace(instance, tag, value.replace(b",", b"."))


def _correct_syntax(instance: FileDataset) -> None:
    """Of the native syntaxes the one in which the data set is written (PS3.5 A); of compressed ones what is said."""
    said = UID(str(instance.file_meta.get("TransferSyntaxUID") or ""))
    written = _NATIVE.get((bool(instance.original_encoding[0]), bool(instance.original_encoding[1])))
    is_native = said in ("", *_NATIVE.values())
    if is_native and written is not None and said != written:
        instance.file_meta.TransferSyntaxUID = written


def _correct_representation(instance: FileDataset, tag: BaseTag) -> None:
    element = instance.get_item(tag)
    if isinstance(element, RawDataElement) and has_another(element):
        instance[tag] = as_of_the_standard(element) or element


def _raw(instance: FileDataset, tag: int) -> bytes:
    element = instance.get_item(tag)
    return element.value or b"" if isinstance(element, RawDataElement) else b""


def _replace(instance: FileDataset, tag: int, value: bytes) -> None:
    """Replace a value that is still raw, of even length; nothing happens if only the padding at its end differs."""
    element = instance.get_item(tag)
    if isinstance(element, RawDataElement) and (element.value or b"").rstrip(b" \0") != value.rstrip(b" \0"):
        even = value + b" " * (len(value) % 2)
        instance[tag] = element._replace(value=even, length=len(even))
