"""What a derived instance keeps of its source: everything but what describes, seals or repeats the source's pixels."""

from copy import deepcopy
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

DROPPED: Final = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "PixelData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "SmallestPixelValueInSeries",  # of the source's series; ours is not known from one slice
        "LargestPixelValueInSeries",
        "IconImageSequence",
        "MACParametersSequence",  # with the signatures: they seal the source (PS3.3 C.12.1.1.3)
        "DigitalSignaturesSequence",
        "DataSetTrailingPadding",
    )
)
"""Attributes that are wrong or without meaning once the pixels are new."""

OVERLAY_DATA_ELEMENT: Final = 0x3000


def inherited(source: Dataset) -> Dataset:
    """Return a data set with the elements of the source that stay true when its pixels change.

    Private elements go, because some describe the pixels and none says so; overlays go when they live in unused bits
    of the pixels (PS3.5 8.1.2); group lengths go, because they would be wrong.

    Parameters
    ----------
    source : Dataset
        Never changed, and it shares no mutable value with the result.

    Returns
    -------
    Dataset
        Values that were not yet decoded are the very bytes of the source.
    """
    tags = [tag for tag in source.keys() if _is_kept(tag, source)]  # noqa: SIM118 - iterating decodes every element
    kept = Dataset({tag: _copied(source, tag) for tag in tags})
    # The raw bytes are in this encoding; pydicom converts them on writing where the encoding is another.
    is_implicit, is_little_endian = source.original_encoding
    kept.set_original_encoding(is_implicit, is_little_endian, source.original_character_set)
    return kept


def _is_kept(tag: BaseTag, source: Dataset) -> bool:
    if tag.is_private or tag.element == 0 or tag in DROPPED:
        return False
    return not _is_overlay(tag) or (tag.group, OVERLAY_DATA_ELEMENT) in source


def _is_overlay(tag: BaseTag) -> bool:
    """Overlay planes are the even groups 6000 to 601E (PS3.5 7.6)."""
    return 0x6000 <= tag.group <= 0x601E


def _copied(source: Dataset, tag: BaseTag) -> DataElement | RawDataElement:
    """Share immutable raw bytes; copy what is decoded, and sequences without the private elements in them."""
    element = source.get_item(tag)
    if isinstance(element, RawDataElement) and not _is_sequence(element):
        return element
    copy = deepcopy(source[tag])
    for item in copy.value if copy.VR == "SQ" else ():
        item.remove_private_tags()
    return copy


def _is_sequence(element: RawDataElement) -> bool:
    # Implicit VR tells no VR, and UN may hide the one of the dictionary (PS3.5 6.2.2).
    if element.VR not in (None, "UN"):
        return element.VR == "SQ"
    return dictionary_has_tag(element.tag) and dictionary_VR(element.tag) == "SQ"
