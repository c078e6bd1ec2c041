"""Do two data sets of one SOP Instance UID say the same? Archives re-encode what they keep, and copies lie in folders.

Two data sets are the same image if their attributes and their decoded pixels are the same, in any transfer
syntax. Private elements, group lengths and what describes the encoding do not count.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from pydicom.datadict import dictionary_description, dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.legible import texts, value_of
from iscl_node.dicom.reading.volume import stored_values
from iscl_node.errors import QuarantineSeriesError

_MOST_NAMED: Final = 4
_DEEPEST: Final = 16
_PIXELS: Final = Tag("PixelData")
_OF_THE_ENCODING: Final = frozenset(
    map(
        Tag,
        (
            *("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "DataSetTrailingPadding"),
            *("SpecificCharacterSet", "InstanceAvailability", "RetrieveAETitle"),
        ),
    )
)
"""They may differ between encodings of one image; texts are compared decoded, so their character set may, too."""


def without_copies(instances: Sequence[Dataset]) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
    """Part instances into the first of each SOP Instance UID and the identical copies of those.

    Raises
    ------
    QuarantineSeriesError
        If two instances of one SOP Instance UID are not the same image, naming what differs.
    """
    first: dict[str, Dataset] = {}
    copies = []
    for instance in instances:
        known = first.setdefault(str(instance.SOPInstanceUID), instance)
        if known is instance:
            continue
        differing = differences(known, instance)
        if differing:
            raise QuarantineSeriesError(f"two images have the same SOP Instance UID, but differ in {listed(differing)}")
        copies.append(instance)
    return tuple(first.values()), tuple(copies)


def differences(one: Dataset, other: Dataset) -> list[str]:
    """Return the names of the attributes in which two data sets differ; none if they are the same image."""
    named = [_name(tag) for tag in sorted(_differing(one, other, _DEEPEST))]
    return named if _have_same_pixels(one, other) else ["Pixel Data", *named]


def listed(names: Sequence[str]) -> str:
    """The first of the names, in words; empty for none."""
    if not names:
        return ""
    more = len(names) - _MOST_NAMED
    told = [*names[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def _differing(one: Dataset, other: Dataset, levels: int) -> Iterator[BaseTag]:
    tags = {tag for dataset in (one, other) for tag in dataset.keys()}  # noqa: SIM118 - iterating gives elements
    for tag in tags:
        if _counts(tag) and not _is_same(one, other, tag, levels):
            yield tag


def _counts(tag: BaseTag) -> bool:
    return not tag.is_private and tag.element != 0 and tag.group > 2 and tag not in _OF_THE_ENCODING


def _is_same(one: Dataset, other: Dataset, tag: BaseTag, levels: int) -> bool:
    """Whether an attribute has the same bytes, text, numbers or items; empty and absent are the same."""
    if any(a == b for a, b in zip(texts(one, tag), texts(other, tag), strict=True)):
        return True
    a, b = value_of(one, tag), value_of(other, tag)
    if isinstance(a, DataElement) and isinstance(b, DataElement) and a.VR == b.VR == "SQ" and levels:
        return len(a.value) == len(b.value) and not any(
            any(_differing(*pair, levels - 1)) for pair in zip(a.value, b.value, strict=True)
        )
    return False


def _have_same_pixels(one: Dataset, other: Dataset) -> bool:
    if (_PIXELS in one) != (_PIXELS in other):
        return False
    if _PIXELS not in one:
        return True
    try:
        pairs = zip(frames(one), frames(other), strict=True)
        return all(np.array_equal(stored_values(a), stored_values(b)) for a, b in pairs)
    except (QuarantineSeriesError, ValueError):
        return bytes(one.PixelData) == bytes(other.PixelData)


def _name(tag: BaseTag) -> str:
    return dictionary_description(tag) if dictionary_has_tag(tag) else str(tag)
