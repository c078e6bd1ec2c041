"""Kinds of series by how their objects are written: texts, identifiers, streams, files, compression."""

import gzip
import zlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

import numpy as np
from factories import ROOT, ct_dataset, ct_series, file_meta_of, part10
from kinds import body, derived, each_slice, files, raw, series, stopped, written
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

LONG_UID: Final = f"{ROOT}." + "1" * 64


def in_syntax(syntax: UID) -> list[bytes]:
    return [encoded(each, syntax) for each in ct_series(3)]


def encoded(dataset: Any, syntax: UID) -> bytes:
    """The file of an image in another native transfer syntax."""
    copy = deepcopy(dataset)
    if syntax == ExplicitVRBigEndian:
        copy.PixelData = np.frombuffer(copy.PixelData, "<i2").astype(">i2").tobytes()
    copy.file_meta = file_meta_of(copy, syntax)
    return part10(copy)


def compressed(dataset: Any, syntax: UID) -> Any:
    copy = deepcopy(dataset)
    copy.compress(syntax, generate_instance_uid=False)
    return copy


def with_copies(*syntaxes: UID) -> list[bytes]:
    """A series, and one of its slices in other transfer syntaxes."""
    first = ct_series(1)[0]
    made = [part10(compressed(first, each)) if UID(each).is_encapsulated else encoded(first, each) for each in syntaxes]
    return [*series(), *made]


def with_trailer(trailer: Callable[[bytes], bytes]) -> list[bytes]:
    """Deflated, with what a program that knows other formats of zlib appends."""
    made = []
    for each in in_syntax(DeflatedExplicitVRLittleEndian):
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(body(each))
        made.append(each.removesuffix(inflater.unused_data) + trailer(inflated))
    return made


def gzip_trailer(inflated: bytes) -> bytes:
    return gzip.compress(inflated)[-8:]


def fragmented() -> list[bytes]:
    """Frames in fragments of 1024 bytes, without an offset table."""

    def change(dataset: Any) -> None:
        dataset.compress(RLELossless, generate_instance_uid=False)
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate([frame], fragments_per_frame=max(1, len(frame) // 1024), has_bot=False)
        dataset["PixelData"].is_undefined_length = True

    return each_slice(change)


def nested(levels: int) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        item = Dataset()
        item.CodeMeaning = "innermost"
        for _ in range(levels):
            outer = Dataset()
            outer.add_new(0x00400275, "SQ", Sequence([item]))
            item = outer
        dataset.add_new(0x00400275, "SQ", Sequence([item]))

    return change


def many_items(dataset: Dataset) -> None:
    made = []
    for number in range(3000):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{number}"
        made.append(item)
    dataset.ReferencedImageSequence = Sequence(made)


def private_clash(dataset: Dataset) -> None:
    """Two creators for one block, one for two blocks, and elements of a block that nobody reserved."""
    for tag, vr, value in (
        *((0x00091010, "LO", "one"), (0x00090010, "LO", "MAKER A"), (0x00090011, "LO", "MAKER A")),
        *((0x00091110, "LO", "two"), (0x00431027, "SH", "no creator"), (0x00450010, "LO", "MAKER A\\MAKER B")),
    ):
        dataset.add_new(tag, vr, value)


def retired(dataset: Dataset) -> None:
    """What ACR-NEMA had."""
    for tag, vr, value in (
        *((0x00080001, "UL", 4711), (0x00080010, "SH", "ACR-NEMA 2.0"), (0x00080040, "US", 0)),
        *((0x00200030, "DS", ["1", "2", "3"]), (0x00200035, "DS", ["1", "0", "0", "0", "1", "0"])),
        *((0x00280005, "US", 2), (0x00280040, "CS", "RECT"), (0x00280200, "US", 32736)),
    ):
        dataset.add_new(tag, vr, value)


def without_syntax() -> list[bytes]:
    return [_without(each, b"\x02\x00\x10\x00UI") for each in series()]


def _without(content: bytes, start: bytes) -> bytes:
    """A file without an element of its file meta information, whose length stays wrong."""
    at = content.index(start)
    return content[:at] + content[at + 8 + int.from_bytes(content[at + 6 : at + 8], "little") :]


def bare(syntax: UID) -> list[bytes]:
    return [body(each) for each in in_syntax(syntax)]


def no_end() -> list[bytes]:
    """Fragments without the delimiter at their end."""
    return [part10(compressed(each, RLELossless))[:-8] for each in ct_series(2)]


def with_vr(vr: bytes) -> list[bytes]:
    """Series Description under a value representation that there is not."""
    return [each.replace(b"\x08\x00\x3e\x10LO", b"\x08\x00\x3e\x10" + vr, 1) for each in series()]


def with_directory() -> list[bytes]:
    """A directory of a medium under another name."""
    directory = ct_dataset(SOPClassUID="1.2.840.10008.1.3.10")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PixelData"):
        delattr(directory, keyword)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.DirectoryRecordSequence = Sequence([])
    return [*series(), *files(directory)]


STREAMS: Final = (
    stopped(
        "long_uid",
        "a SOP Instance UID of more than 64 characters",
        lambda: series(SOPInstanceUID=LONG_UID),
        "SOPInstanceUID",
        "refused",
    ),
    stopped(
        "no_uid",
        "a Series Instance UID of letters",
        lambda: written(SeriesInstanceUID=(b"1.2.a.b.", "UI")),
        "SeriesInstanceUID",
        "refused",
    ),
    derived(
        "long_frame_uid",
        "a Frame of Reference UID of more than 64 characters",
        lambda: series(FrameOfReferenceUID=LONG_UID),
    ),
    derived(
        "zeros_in_uids",
        "components of UIDs that begin with zeros",
        lambda: series(StudyInstanceUID="1.2.007.1", SeriesInstanceUID="1.2.003.01"),
    ),
    derived(
        "broken_utf8",
        "ISO_IR 192 with bytes that are none",
        lambda: written(
            SpecificCharacterSet=(b"ISO_IR 192", "CS"),
            PatientName=(b"M\xfcller^J\xf6rg ", "PN"),
            SeriesDescription=(b"Sch\xe4del", "LO"),
        ),
    ),
    derived(
        "escapes",
        "escape sequences that are not declared",
        lambda: written(PatientName=(b"\x1b$)C\xb1\xe8^\xc8\xf1\xc1\xdf ", "PN")),
    ),
    derived(
        "katakana",
        "half-width katakana",
        lambda: written(
            SpecificCharacterSet=(b"ISO_IR 13 ", "CS"), PatientName=(b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=", "PN")
        ),
    ),
    derived(
        "unknown_charset",
        "a character set that there is not",
        lambda: written(SpecificCharacterSet=(b"KLINGON ", "CS")),
    ),
    stopped(
        "charset_of_a_codec",
        "a character set that is a codec of no texts",
        lambda: renamed_charset(b"zlib_codec"),
        "Specific Character Set",
    ),
    derived(
        "long_texts",
        "texts far longer than they may be",
        lambda: series(
            SeriesDescription="x" * 5000, PatientID="P" * 300, ImageComments="y" * 30000, AccessionNumber="A" * 100
        ),
    ),
    derived(
        "dates",
        "dates and times that are none",
        lambda: written(
            StudyDate=(b"01/02/24", "DA"),
            SeriesDate=(b"2024", "DA"),
            ContentTime=(b"NOON", "TM"),
            SeriesTime=(b"25:61 ", "TM"),
            AcquisitionDateTime=(b"yesterday ", "DT"),
            TimezoneOffsetFromUTC=(b"CET ", "SH"),
            PatientAge=(b"45", "AS"),
        ),
    ),
    derived("private_clash", "private creators that clash", lambda: each_slice(private_clash)),
    derived("retired", "attributes of ACR-NEMA", lambda: each_slice(retired)),
    derived("many_items", "a sequence of 3000 items", lambda: each_slice(many_items)),
    stopped("nested", "40 sequences in one another", lambda: each_slice(nested(40)), "nested in"),
    stopped("deeply_nested", "3000 sequences in one another", lambda: deep(3000), "nested in"),
    derived("big_endian", "Explicit VR Big Endian", lambda: in_syntax(ExplicitVRBigEndian)),
    derived("deflated", "deflated", lambda: in_syntax(DeflatedExplicitVRLittleEndian)),
    derived("deflated_gzip", "deflated, with the trailer of gzip", lambda: with_trailer(gzip_trailer)),
    derived(
        "deflated_zlib",
        "deflated, with the checksum of zlib",
        lambda: with_trailer(lambda inflated: zlib.adler32(inflated).to_bytes(4, "big")),
    ),
    derived(
        "copies_of_all_kinds",
        "copies in JPEG-LS, JPEG 2000, big endian and deflated",
        lambda: with_copies(JPEGLSLossless, JPEG2000Lossless, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
        3,
        "identical copy",
    ),
    derived("fragments", "compressed frames in many fragments, no offset table", fragmented),
    stopped("no_end", "compressed frames without their end", no_end, "ends inside", "refused"),
    derived("no_syntax", "file meta information without a transfer syntax", without_syntax),
    derived("bare_explicit", "no preamble, Explicit VR Little Endian", lambda: [body(each) for each in series()]),
    derived("bare_big_endian", "no preamble, Explicit VR Big Endian", lambda: bare(ExplicitVRBigEndian)),
    derived("no_such_vr", "a value representation that there is not", lambda: with_vr(b"XX")),
    derived("directory", "a directory of a medium under another name", with_directory, 3, "directory"),
    derived(
        "empty_pixels_of_one",
        "Pixel Data of one slice is empty",
        lambda: [*series()[1:], *each_slice(emptied, 1)],
        2,
        "Pixel Data has 0 bytes",
    ),
    stopped(
        "private_syntax",
        "a private transfer syntax",
        lambda: [each.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0", 1) for each in series()],
        "private or unknown",
        "refused",
    ),
)


def renamed_charset(name: bytes) -> list[bytes]:
    return [each.replace(b"ISO_IR 100", name, 1) for each in series()]


def emptied(dataset: Any) -> None:
    raw(dataset, "PixelData", b"", "OW")


def deep(levels: int) -> list[bytes]:
    """Sequences in one another, written without pydicom, which cannot."""
    inner = b""
    for _ in range(levels):
        item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
        inner = b"\x40\x00\x75\x02SQ\0\0" + len(item).to_bytes(4, "little") + item
    return [each.replace(b"\xe0\x7f\x10\x00OW", inner + b"\xe0\x7f\x10\x00OW", 1) for each in series()]
