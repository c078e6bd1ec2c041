"""Files that lie: seeds with some of their elements, lengths, values or bytes changed, the same for the same number."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Final

from element_tree import (
    ITEM,
    PIXEL_DATA,
    UNDEFINED,
    Element,
    Encoding,
    File,
    Item,
    all_elements,
    copied,
    parsed_file,
)
from pydicom.datadict import dictionary_VR, tag_for_keyword

VRS: Final = (
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"OB", b"OD", b"OF", b"OL"),
    *(b"OV", b"OW", b"PN", b"SH", b"SL", b"SQ", b"SS", b"ST", b"SV", b"TM", b"UC", b"UI", b"UL", b"UN", b"UR", b"US"),
    *(b"UT", b"UV", b"\0\0", b"??", b"  ", b"\xff\xff"),
)

READ: Final = (
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelPresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("SmallestImagePixelValue", "LargestImagePixelValue", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "InstanceNumber", "SeriesNumber", "SeriesDescription", "ImageType"),
    *("FrameOfReferenceUID", "SpecificCharacterSet", "TimezoneOffsetFromUTC", "DerivationDescription"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "ContentQualification"),
    *("ContributingEquipmentSequence", "ReferencedSeriesSequence", "RelatedSeriesSequence", "SourceImageSequence"),
    *("DerivationCodeSequence", "RealWorldValueMappingSequence", "MultienergyCTAcquisition", "ConcatenationUID"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "CTImageFrameTypeSequence", "FrameType"),
    *("PixelValueTransformationSequence", "PixelMeasuresSequence", "DerivationImageSequence", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "SourceImageEvidenceSequence", "UnassignedSharedConvertedAttributesSequence"),
    *("XRayTubeCurrentInmA", "ExposureTimeInms", "ExposureInmAs", "BodyPartExamined", "KVP", "SeriesInstanceUID"),
    *("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality", "ConvolutionKernel", "PatientName", "StudyDate"),
)
"""What the node looks at; changed more often than the rest."""
READ_TAGS: Final = frozenset(int(tag_for_keyword(keyword) or 0) for keyword in READ)

TEXTS: Final = (
    *(b"nan", b"NaN ", b"inf", b"-inf", b"1e308", b"-1e308", b"1e-320", b"1e400", b"0", b"-0", b"", b" ", b"1\\2"),
    *(b"0.1", b"-1", b"+5", b"1_0", b"0x10", b"1,5", b"99999999999999999999", b"2147483648", b"-2147483649", b"65536"),
    *(
        b"\\",
        b"\\\\\\\\",
        b"1\\\\2",
        b"abc",
        b"\0",
        b"\0\0",
        b"\xff\xfe",
        b"\x1b$B",
        b"\x1b(J\x1b$B\x7f",
        b"1\0",
        b"\n",
    ),
    *(b"CT", b"MR", b"HU", b"US", b"MONOCHROME2", b"RGB", b"PALETTE COLOR", b"YES", b"ORIGINAL\\PRIMARY", b"LOCALIZER"),
    *(b"00", b"01", b"DERIVED\\PRIMARY\\AXIAL\\SUBTRACTION", b"+9999", b"-1200", b"+1400", b"ISCL Node", b"RESEARCH"),
    *(
        b"1.2.3",
        b"../../etc",
        b"1" * 64,
        b"1." * 33,
        b"1.2.840.10008.1.2.5",
        b"1.2.840.10008.5.1.4.1.1.2.1",
        b"/",
        b".",
    ),
    *(b"ISO_IR 192", b"ISO 2022 IR 87", b"\\ISO 2022 IR 13", b"GB18030", b"utf7", b"rot13", b"ISO_IR 100\\ISO_IR 192"),
    *(
        b"20240230",
        b"99999999",
        b"20240101-",
        b"256060",
        b"20240101101600.5+9900",
        b"1e5" * 50,
        b"A" * 65,
        b"B" * 20000,
    ),
    *(
        b"%s%n",
        b"{0.__class__}",
        "ä".encode(),
        "山田".encode("iso2022_jp"),
        b"1\\nan\\inf\\4\\5\\6",
        b"0\\0\\0\\0\\0\\0",
    ),
)
"""Values of texts and numbers as text that somebody may not have thought of."""

NUMBERS: Final = (
    0,
    1,
    2,
    3,
    7,
    8,
    11,
    12,
    13,
    15,
    16,
    17,
    31,
    32,
    64,
    127,
    255,
    256,
    2048,
    2049,
    4096,
    32767,
    32768,
    65535,
)
LENGTHS: Final = (0, 1, 2, 3, 7, 8, 255, 65535, 65534, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, UNDEFINED)

DEEPEST: Final = 20_000

Change = Callable[[Random, File], None]


class Mutations:
    """Makes inputs of seeds.

    Parameters
    ----------
    seeds : sequence of bytes
        Whole files.
    """

    def __init__(self, seeds: Sequence[bytes]) -> None:
        self._seeds = tuple(seeds)
        self._files = tuple(map(parsed_file, seeds))

    def made(self, random: Random) -> bytes:
        """One input."""
        with _deep_recursion():
            return self._made(random)

    def transfer_syntaxes(self) -> list[str]:
        """Those of the seeds, each once."""
        return list(dict.fromkeys(map(_transfer_syntax, self._files)))

    def data_set(self, random: Random) -> tuple[int, bytes, str]:
        """The number of a transfer syntax, a data set of it as it may come by the network, and the seed's UID."""
        seed = random.choice(self._files)
        sop_uid = next(each.value for each in seed.meta if each.tag == 0x00020003).decode().strip("\0")
        number = self.transfer_syntaxes().index(_transfer_syntax(seed))
        file = replace(seed, meta=[], elements=copied(seed.elements), preamble=b"")
        if random.random() < 0.5:
            random.choices(CHANGES, WEIGHTS)[0](random, replace(file, meta=copied(seed.meta)))
        with _deep_recursion():
            data = file.encoded()
        return number, _changed(random, data) if random.random() < 0.1 else data, sop_uid

    def _made(self, random: Random) -> bytes:
        number = random.randrange(len(self._seeds))
        data = self._seeds[number]
        if random.random() < 0.8:
            data = self._changed_elements(random, self._files[number])
        if random.random() < 0.25:
            data = self._changed_bytes(random, data)
        return data

    def _changed_elements(self, random: Random, seed: File) -> bytes:
        file = replace(seed, meta=copied(seed.meta), elements=copied(seed.elements))
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
            random.choices(CHANGES, WEIGHTS)[0](random, file)
        return file.encoded()

    def _changed_bytes(self, random: Random, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 4, 16))):
            at = random.randrange(128, max(129, len(changed)))
            random.choice((_flip, _insert, _cut, _repeat, self._splice))(random, changed, at)
        return bytes(changed)

    def _splice(self, random: Random, data: bytearray, at: int) -> None:
        """Go on as another seed does."""
        other = random.choice(self._seeds)
        data[at:] = other[random.randrange(128, len(other)) :]


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """To make what is nested deeper than anybody can read."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(DEEPEST)
    try:
        yield
    finally:
        sys.setrecursionlimit(usual)


def _transfer_syntax(file: File) -> str:
    return next(each.value for each in file.meta if each.tag == 0x00020010).decode().strip("\0")


def _changed(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    random.choice((_flip, _insert, _cut, _repeat))(random, changed, random.randrange(len(changed)))
    return bytes(changed)


def _flip(random: Random, data: bytearray, at: int) -> None:
    data[at : at + 1] = bytes([random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256)))])


def _insert(random: Random, data: bytearray, at: int) -> None:
    data[at:at] = random.randbytes(random.choice((1, 2, 4, 100)))


def _cut(random: Random, data: bytearray, at: int) -> None:
    del data[at : at + random.choice((1, 2, 4, 100, len(data)))]


def _repeat(random: Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + random.choice((2, 8, 64, 512))]


def _chosen(random: Random, elements: list[Element]) -> tuple[list[Element], int]:
    """An element at any depth, most often one that the node reads."""
    found = list(all_elements(elements))
    read = [each for each in found if each[0][each[1]].tag in READ_TAGS]
    return random.choice(read if read and random.random() < 0.7 else found or [(elements, 0)])


def _element(random: Random, file: File) -> Element:
    where, index = _chosen(random, file.elements)
    return where[index] if where else Element(PIXEL_DATA, b"OW")


def _value(random: Random, element: Element, encoding: Encoding) -> bytes:
    """Some value for an element, often of its kind."""
    kind = random.random()
    if element.vr in (b"US", b"SS", b"UL", b"SL") and kind < 0.8:
        size = 2 if element.vr in (b"US", b"SS") else 4
        count = random.choice((1, 1, 1, 1, 0, 2, 3))
        numbers = (random.choice(NUMBERS) * random.choice((1, 1, 1, -1)) for _ in range(count))
        return b"".join((each % (1 << 8 * size)).to_bytes(size, encoding.order) for each in numbers)  # type: ignore[arg-type]
    if kind < 0.9:
        text = random.choice(TEXTS)
        return text + b" " * (len(text) % 2 if random.random() < 0.9 else 1)
    return random.randbytes(random.choice((0, 1, 2, 4, 8, 16, 33)))


def _change_value(random: Random, file: File) -> None:
    element = _element(random, file)
    element.value, element.items, element.fragments = _value(random, element, file.written_as), None, None
    element.is_undefined = False


def _change_vr(random: Random, file: File) -> None:
    _element(random, file).vr = random.choice(VRS)


def _change_length(random: Random, file: File) -> None:
    element = _element(random, file)
    element.length = random.choice((*LENGTHS, len(element.value) + random.choice((-2, -1, 1, 2))))


def _change_tag(random: Random, file: File) -> None:
    element = _element(random, file)
    element.tag = random.choice((random.choice(tuple(READ_TAGS)), element.tag ^ 1, random.getrandbits(32), ITEM))


def _remove(random: Random, file: File) -> None:
    where, index = _chosen(random, file.elements)
    del where[index : index + 1]


def _double(random: Random, file: File) -> None:
    where, index = _chosen(random, file.elements)
    where[index:index] = copied(where[index : index + 1])


def _move(random: Random, file: File) -> None:
    """Against the order of tags, and perhaps into a sequence."""
    where, index = _chosen(random, file.elements)
    target, position = _chosen(random, file.elements)
    moved = copied(where[index : index + 1])
    target[position:position] = moved


def _add(random: Random, file: File) -> None:
    """Add something that the node reads, of the dictionary's kind or another one."""
    keyword = random.choice(READ)
    vr = dictionary_VR(keyword)[:2].encode() if random.random() < 0.7 else random.choice(VRS)
    element = Element(int(tag_for_keyword(keyword) or 0), vr)
    where, index = _chosen(random, file.elements)
    if vr == b"SQ" and random.random() < 0.8:
        element.items = [Item(copied(where[index : index + 3])) for _ in range(random.choice((0, 1, 2)))]
    else:
        element.value = _value(random, element, file.written_as)
    target = file.elements if random.random() < 0.7 else where
    target.append(element)
    target.sort(key=lambda each: each.tag)


def _nest(random: Random, file: File) -> None:
    """Put an element into sequences in one another."""
    where, index = _chosen(random, file.elements)
    inner = copied(where[index : index + 1])
    is_undefined = random.random() < 0.5
    for _ in range(random.choice((1, 2, 10, 31, 32, 33, 40, 100, 300))):
        tag = random.choice((0x00081115, 0x00400275, 0x00090010, 0x00089215))
        inner = [Element(tag, b"SQ", items=[Item(inner, is_undefined)], is_undefined=is_undefined)]
    where[index:index] = inner


def _change_sequence(random: Random, file: File) -> None:
    """Change how a sequence ends, or what is in it."""
    sequences = [where[index] for where, index in all_elements(file.elements) if where[index].items]
    if sequences:
        sequence = random.choice(sequences)
        random.choice((_change_end, _change_item, _change_items))(random, sequence, random.choice(sequence.items or []))


def _change_end(random: Random, sequence: Element, item: Item) -> None:
    random.choice((sequence, item)).is_undefined = random.random() < 0.8
    random.choice((sequence, item)).has_end = random.random() < 0.5


def _change_item(random: Random, _sequence: Element, item: Item) -> None:
    if random.random() < 0.5:
        item.length = random.choice(LENGTHS)
    else:
        item.elements.clear()


def _change_items(random: Random, sequence: Element, item: Item) -> None:
    items = sequence.items or []
    others = [each for each in items if each is not item]
    twin = Item(copied(item.elements))
    sequence.items = random.choice((others, [*items, twin], items * random.choice((2, 3, 50))))


def _change_fragments(random: Random, file: File) -> None:
    """Change compressed pixels: their offset table, their fragments, their bytes."""
    fragments = next((each.fragments for each in file.elements if each.tag == PIXEL_DATA), None)
    if not fragments:
        return
    index = random.randrange(len(fragments))
    act = random.randrange(7)
    if act == 0:
        fragments[0] = random.randbytes(random.choice((0, 3, 4, 8, 64)))
    elif act == 1:
        fragments[0] = random.choice(LENGTHS).to_bytes(4, "little") * random.choice((1, 2, 3))
    elif act == 2:
        del fragments[index]
    elif act == 3:
        fragments.insert(index, fragments[index])
    else:
        _change_bit_stream(random, fragments, index)


def _change_bit_stream(random: Random, fragments: list[bytes], index: int) -> None:
    changed = bytearray(fragments[index])
    for _ in range(random.choice((1, 2, 5))):
        at = random.randrange(min(len(changed), random.choice((64, len(changed) or 1)))) if changed else 0
        random.choice((_flip, _flip, _flip, _cut, _insert, _repeat))(random, changed, at)
    fragments[index] = bytes(changed) + bytes(len(changed) % 2)


def _change_pixels(random: Random, file: File) -> None:
    """Native pixels with values that few images have."""
    element = next((each for each in file.elements if each.tag == PIXEL_DATA and each.fragments is None), None)
    if element is None:
        return
    size = len(element.value)
    element.value = random.choice(
        (bytes(size), b"\xff" * size, b"\x00\x80" * (size // 2), b"\xff\x7f" * (size // 2), random.randbytes(size))
    )


def _change_meta(random: Random, file: File) -> None:
    where, index = _chosen(random, file.meta)
    act = random.randrange(6)
    if act == 0:
        del where[index : index + 1]
    elif act == 1:
        where[index].vr = random.choice(VRS)
    elif act == 2:
        where[index].length = random.choice(LENGTHS)
    else:
        where[index].value = random.choice(TEXTS[:-6])


def _change_encoding(random: Random, file: File) -> None:
    """Write the data set otherwise than the file meta information says."""
    file.written_as = Encoding(random.random() < 0.5, random.random() < 0.7)
    file.is_deflated = random.random() < 0.3


def _inflate(random: Random, file: File) -> None:
    """Have a deflated data set hold far more than it seems to."""
    if file.is_deflated:
        file.elements.append(Element(0x7FE10010, b"OB", bytes(random.choice((1 << 16, 1 << 20, 8 << 20)))))


_WEIGHED: Final[dict[Change, float]] = {
    _change_value: 12,
    _change_vr: 3,
    _change_length: 2,
    _change_tag: 2,
    _remove: 4,
    _double: 1,
    _move: 2,
    _add: 8,
    _nest: 1,
    _change_sequence: 3,
    _change_fragments: 5,
    _change_pixels: 1,
    _change_meta: 1,
    _change_encoding: 0.5,
    _inflate: 0.3,
}
CHANGES: Final = tuple(_WEIGHED)
WEIGHTS: Final = tuple(_WEIGHED.values())
