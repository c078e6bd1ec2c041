"""A DICOM stream as a tree whose every length, tag and value representation can be made to lie (PS3.5 7)."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
PIXEL_DATA: Final = 0x7FE00010
LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Their length has 32 bits in Explicit VR (PS3.5 7.1.2)."""

PREAMBLE: Final = bytes(128) + b"DICM"


@dataclass(frozen=True)
class Encoding:
    """How a data set is written."""

    is_implicit: bool
    is_little: bool

    @property
    def order(self) -> str:
        """For ``int.to_bytes``."""
        return "little" if self.is_little else "big"


EXPLICIT: Final = Encoding(False, True)


@dataclass
class Element:
    """An element; ``length`` and ``has_end``, where set, are written in place of what is true.

    ``items`` are those of a sequence, ``fragments`` those of encapsulated Pixel Data; ``value`` counts for all others.
    """

    tag: int
    vr: bytes
    value: bytes = b""
    items: "list[Item] | None" = None
    fragments: list[bytes] | None = None
    is_undefined: bool = False
    length: int | None = None
    has_end: bool = True


@dataclass
class Item:
    """An item of a sequence (PS3.5 7.5)."""

    elements: list[Element]
    is_undefined: bool = False
    length: int | None = None
    has_end: bool = True


@dataclass
class File:
    """A DICOM file in its parts; ``written_as`` is how its data set is encoded, whatever its meta information says."""

    meta: list[Element]
    elements: list[Element]
    written_as: Encoding
    is_deflated: bool
    preamble: bytes = field(default=PREAMBLE)

    def encoded(self) -> bytes:
        """The bytes."""
        data_set = encoded(self.elements, self.written_as)
        if self.is_deflated:
            deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            data_set = deflater.compress(data_set) + deflater.flush()
            data_set += bytes(len(data_set) % 2)
        return self.preamble + encoded(self.meta, EXPLICIT) + data_set


def parsed_file(part10: bytes) -> File:
    """Take a whole, valid file apart."""
    meta, end = _parsed(part10, len(PREAMBLE), EXPLICIT, until_group=2)
    syntax = UID(next(each.value for each in meta if each.tag == 0x00020010).decode().strip("\0"))
    is_deflated = syntax == DeflatedExplicitVRLittleEndian
    written_as = Encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    data_set = zlib.decompress(part10[end:], -zlib.MAX_WBITS) if is_deflated else part10[end:]
    elements, _ = _parsed(data_set, 0, written_as)
    return File(meta, elements, written_as, is_deflated)


def all_elements(elements: list[Element]) -> Iterator[tuple[list[Element], int]]:
    """Every element at every depth, as its list and its index there."""
    for index, element in enumerate(elements):
        yield elements, index
        for item in element.items or ():
            yield from all_elements(item.elements)


def copied(elements: list[Element]) -> list[Element]:
    """A copy at every depth."""
    return [
        replace(each, items=_copied_items(each), fragments=each.fragments and [*each.fragments]) for each in elements
    ]


def _copied_items(element: Element) -> list[Item] | None:
    if element.items is None:
        return None
    return [replace(item, elements=copied(item.elements)) for item in element.items]


def encoded(elements: list[Element], encoding: Encoding) -> bytes:
    """The bytes of elements, lies included."""
    return b"".join(_encoded(element, encoding) for element in elements)


def _encoded(element: Element, encoding: Encoding) -> bytes:
    content = element.value
    if element.items is not None:
        content = b"".join(_encoded_item(item, encoding) for item in element.items)
    elif element.fragments is not None:
        content = b"".join(_framed(ITEM, each, encoding) for each in element.fragments)
    length = UNDEFINED if element.is_undefined else len(content)
    if element.is_undefined and element.has_end:
        content += _framed(SEQUENCE_END, b"", encoding)
    return _header(element, length if element.length is None else element.length, encoding) + content


def _encoded_item(item: Item, encoding: Encoding) -> bytes:
    content = encoded(item.elements, encoding)
    length = UNDEFINED if item.is_undefined else len(content)
    if item.is_undefined and item.has_end:
        content += _framed(ITEM_END, b"", encoding)
    return _framed(ITEM, content, encoding, length if item.length is None else item.length)


def _framed(tag: int, content: bytes, encoding: Encoding, length: int | None = None) -> bytes:
    return _tag(tag, encoding) + _number(len(content) if length is None else length, 4, encoding) + content


def _header(element: Element, length: int, encoding: Encoding) -> bytes:
    if encoding.is_implicit:
        return _tag(element.tag, encoding) + _number(length, 4, encoding)
    if element.vr in LONG_VRS:
        return _tag(element.tag, encoding) + element.vr + b"\0\0" + _number(length, 4, encoding)
    return _tag(element.tag, encoding) + element.vr + _number(length, 2, encoding)


def _tag(tag: int, encoding: Encoding) -> bytes:
    return _number(tag >> 16, 2, encoding) + _number(tag, 2, encoding)


def _number(number: int, size: int, encoding: Encoding) -> bytes:
    return (number % (1 << 8 * size)).to_bytes(size, encoding.order)  # type: ignore[arg-type]  # little or big


def _parsed(
    data: bytes, start: int, encoding: Encoding, end: int | None = None, until_group: int | None = None
) -> tuple[list[Element], int]:
    """Elements from ``start`` to ``end``, or to the end of an item, or of a group; and where they end."""
    elements: list[Element] = []
    position, end = start, len(data) if end is None else end
    while position < end:
        tag = _tag_at(data, position, encoding)
        if tag == ITEM_END:
            return elements, position + 8
        if until_group is not None and tag >> 16 > until_group:
            break
        element, position = _parsed_element(data, position, tag, encoding)
        elements.append(element)
    return elements, position


def _parsed_element(data: bytes, position: int, tag: int, encoding: Encoding) -> tuple[Element, int]:
    vr, length, position = _parsed_header(data, position, tag, encoding)
    element = Element(tag, vr, is_undefined=length == UNDEFINED)
    if tag == PIXEL_DATA and element.is_undefined:
        element.fragments, position = _parsed_fragments(data, position, encoding)
    elif vr == b"SQ":
        element.items, position = _parsed_items(data, position, length, encoding)
    else:
        element.value = data[position : position + length]
        position += length
    return element, position


def _parsed_header(data: bytes, position: int, tag: int, encoding: Encoding) -> tuple[bytes, int, int]:
    if encoding.is_implicit:
        vr = dictionary_VR(tag)[:2].encode() if dictionary_has_tag(tag) else b"UN"
        return vr, _number_at(data, position + 4, 4, encoding), position + 8
    vr = data[position + 4 : position + 6]
    if vr in LONG_VRS:
        return vr, _number_at(data, position + 8, 4, encoding), position + 12
    return vr, _number_at(data, position + 6, 2, encoding), position + 8


def _parsed_items(data: bytes, position: int, length: int, encoding: Encoding) -> tuple[list[Item], int]:
    items: list[Item] = []
    end = len(data) if length == UNDEFINED else position + length
    while position < end:
        tag, item_length = _tag_at(data, position, encoding), _number_at(data, position + 4, 4, encoding)
        position += 8
        if tag == SEQUENCE_END:
            break
        is_undefined = item_length == UNDEFINED
        elements, position = _parsed(data, position, encoding, None if is_undefined else position + item_length)
        items.append(Item(elements, is_undefined))
    return items, position


def _parsed_fragments(data: bytes, position: int, encoding: Encoding) -> tuple[list[bytes], int]:
    fragments: list[bytes] = []
    while True:
        tag, length = _tag_at(data, position, encoding), _number_at(data, position + 4, 4, encoding)
        position += 8
        if tag == SEQUENCE_END:
            return fragments, position
        fragments.append(data[position : position + length])
        position += length


def _tag_at(data: bytes, position: int, encoding: Encoding) -> int:
    return _number_at(data, position, 2, encoding) << 16 | _number_at(data, position + 2, 2, encoding)


def _number_at(data: bytes, position: int, size: int, encoding: Encoding) -> int:
    return int.from_bytes(data[position : position + size], encoding.order)  # type: ignore[arg-type]  # little or big
