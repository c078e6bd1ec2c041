"""What a derived instance keeps of its source: everything but what describes, seals or repeats the source's pixels.

What is kept is kept byte for byte, in any character set and however wrong it is: a value is decoded only where
Explicit VR Little Endian writes it with other bytes than the source's encoding, and text never is.
"""

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Final

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import STR_VR

from iscl_node.dicom.reading.representation import as_of_the_standard, has_another
from iscl_node.domain import PrivateElement
from iscl_node.errors import OutsideBytesError, QuarantineSeriesError, outside_bytes

DROPPED: Final[Mapping[str, str]] = {
    "SmallestPixelValueInSeries": "of the source's series; the derived one's is not known from one slice",
    "LargestPixelValueInSeries": "of the source's series; the derived one's is not known from one slice",
    "PixelDataProviderURL": "leads to the source's pixels",
    "IconImageSequence": "shows the source's pixels",
    "HistogramSequence": "counts the source's pixels",
    "AlternateRepresentationSequence": "refers to other forms of the source's pixels",
    "MACParametersSequence": "belongs to the signatures",
    "DigitalSignaturesSequence": "seals the source (PS3.3 C.12.1.1.3)",
    "SOPInstanceStatus": "says that the source is an authorized original (PS3.3 C.12.1)",
    "SOPAuthorizationDateTime": "of the source's authorization",
    "SOPAuthorizationComment": "of the source's authorization",
    "AuthorizationEquipmentCertificationNumber": "of the source's authorization",
    "DataSetTrailingPadding": "pads the source's file",
}
"""Attributes that are wrong or without meaning once the pixels are new, and why; also inside sequences."""

FIRST_GROUP: Final = 0x0008
"""Groups below are for commands, file meta information and directories, not for data sets (PS3.5 7.1)."""
PIXEL_GROUPS: Final = range(0x7F00, 0x8000)
"""Pixel Data (7FE0,0010) and all that stands beside it."""
OVERLAY_DATA_ELEMENT: Final = 0x3000

MOST_NESTED: Final = 32
"""Sequences in one another; those of the standard are a few, and all that goes through them bears about a hundred."""

_DROPPED_TAGS: Final = frozenset(tag_for_keyword(keyword) for keyword in DROPPED)
_WORD_BYTES: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Bytes of the words of a stream (PS3.5 7.3), which pydicom hands on without swapping them."""


def inherited(source: Dataset, keep_private: Collection[PrivateElement] = ()) -> Dataset:
    """Return a data set with the elements of the source that stay true when its pixels change.

    Private elements go, because some describe the pixels and none says so; overlays go when they live in unused bits
    of the pixels (PS3.5 8.1.2); group lengths go, because they would be wrong.

    Parameters
    ----------
    source : Dataset
        Never changed, and it shares no mutable value with the result.
    keep_private : collection of PrivateElement
        The private elements that stay, with their Private Creator and their value representation.

    Returns
    -------
    Dataset
        To be written in Explicit VR Little Endian. Values that were not decoded yet are the very bytes of the source.

    Raises
    ------
    QuarantineSeriesError
        When a value must be decoded and cannot be, or sequences are nested deeper than ``MOST_NESTED``.
    """
    return _inherited(source, keep_private, MOST_NESTED)


def _inherited(source: Dataset, keep_private: Collection[PrivateElement], levels: int) -> Dataset:
    private = _kept_private(source, keep_private)
    tags = [tag for tag in source.keys() if tag in private or _is_kept(tag, source)]  # noqa: SIM118 - keeps them raw
    copied = ((tag, _copied(source, tag, keep_private, levels)) for tag in tags)
    elements = {tag: element for tag, element in copied if element is not None}
    # An item without Specific Character Set has its parent's (PS3.5 7.5.3).
    kept = Dataset(elements, parent_encoding=source.original_character_set)
    kept.set_original_encoding(False, True, source.original_character_set)
    return kept


def _is_kept(tag: BaseTag, source: Dataset) -> bool:
    if tag.is_private or tag.element == 0 or tag.group < FIRST_GROUP or tag.group in PIXEL_GROUPS:
        return False
    return tag not in _DROPPED_TAGS and (not _is_overlay(tag) or (tag.group, OVERLAY_DATA_ELEMENT) in source)


def _is_overlay(tag: BaseTag) -> bool:
    """Overlay planes are the even groups 6000 to 601E (PS3.5 7.6)."""
    return 0x6000 <= tag.group <= 0x601E


def _kept_private(source: Dataset, allowed: Collection[PrivateElement]) -> set[BaseTag]:
    """Return the allowed private elements that are there, and the Private Creators that reserve their blocks."""
    kept: set[BaseTag] = set()
    for creator in [tag for tag in source.keys() if tag.is_private_creator] if allowed else ():  # noqa: SIM118
        name = _text(source, creator)
        block = {
            Tag(each.group, creator.element << 8 | each.element)
            for each in allowed
            if (each.group, each.creator) == (creator.group, name)
        }
        present = {tag for tag in block if tag in source}
        kept |= {creator, *present} if present else set()
    return kept


def _text(source: Dataset, tag: BaseTag) -> str:
    """Read a text without replacing its raw bytes in the source."""
    value = source.get_item(tag, keep_deferred=True).value or b""  # so long a value cannot be an identity
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip(" \0")


def _copied(
    source: Dataset, tag: BaseTag, keep_private: Collection[PrivateElement], levels: int
) -> DataElement | RawDataElement | None:
    """Return an element as it is to be written; None where its value is none of what the standard makes of it."""
    try:
        with outside_bytes():
            return _as_written(source, tag, keep_private, levels)
    except OutsideBytesError as error:
        raise QuarantineSeriesError(f"the attribute {tag} cannot be read ({error})") from error


def _as_written(
    source: Dataset, tag: BaseTag, keep_private: Collection[PrivateElement], levels: int
) -> DataElement | RawDataElement | None:
    element = source.get_item(tag)  # decodes what is so long that it was left in the file
    if isinstance(element, RawDataElement) and has_another(element):
        element = as_of_the_standard(element)
        if element is None:
            return None
    explicit = _explicit(element) if isinstance(element, RawDataElement) else None
    if explicit is not None:
        return explicit
    decoded = source[tag]
    if decoded.VR == "SQ":
        if not levels:
            raise QuarantineSeriesError(f"the sequence {tag} is nested in {MOST_NESTED} others")
        items = [_inherited(item, keep_private, levels - 1) for item in decoded.value]
        return DataElement(tag, "SQ", Sequence(items))
    copy = deepcopy(decoded)
    return _swapped(copy) if source.original_encoding[1] is False and copy.VR in _WORD_BYTES else copy


def _explicit(element: RawDataElement) -> RawDataElement | None:
    """Return the element with its value representation, or None where its bytes would be others."""
    vr = _vr(element)
    has_same_bytes = vr in STR_VR or vr == "UN" if not element.is_little_endian else len(vr) == 2 and vr != "SQ"
    return element._replace(VR=vr, is_implicit_VR=False, is_little_endian=True) if has_same_bytes else None


def _vr(element: RawDataElement) -> str:
    """Implicit VR has none, and UN may hide a sequence of the dictionary (PS3.5 6.2.2)."""
    if element.VR not in (None, "UN") or not dictionary_has_tag(element.tag):
        return element.VR or ""
    known = dictionary_VR(element.tag)
    return known if element.VR is None or known == "SQ" else "UN"


def _swapped(words: DataElement) -> DataElement:
    """Write words of a big endian source as little endian ones."""
    size = _WORD_BYTES[words.VR]
    words.value = np.frombuffer(words.value, np.uint8).reshape(-1, size)[:, ::-1].tobytes()
    return words
