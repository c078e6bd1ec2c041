"""Reads what must be known of an instance before its sender gets an answer, and refuses what is not whole.

The bytes come from other machines, so nothing is assumed of them: the stream is parsed to its very
end, without decoding a pixel, and every doubt ends in a refusal while the sender still has its copy.
"""

import re
import zlib
from collections.abc import Callable
from io import BytesIO

from pydicom.datadict import dictionary_description
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.utils import get_expected_length
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from iscl_node.domain import CT_STORAGE, InstanceHeader
from iscl_node.errors import OutsideBytesError, RejectInstanceError, outside_bytes

CANNOT_UNDERSTAND = 0xC000
"""C-STORE failure status of PS3.4 Table B.2-1: the stream cannot be read."""
DATA_SET_DOES_NOT_MATCH = 0xA900
"""C-STORE failure status of PS3.4 Table B.2-1: it can be read, but it is not what its SOP Class demands."""

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
"""The UIDs of PS3.3 C.12.1, C.7.2.1 and C.7.3.1 without which an instance cannot be filed."""

FILE_META_TWINS = (("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"))
"""File meta attributes that repeat one of the data set (PS3.10 Table 7.1-1)."""

DIRECTORY = "the directory of a medium, not an instance"

FILE_META_UIDS = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")

SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
"""What the length of native Pixel Data is computed from (PS3.5 8.1.1)."""

OTHER_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")

PIXEL_DATA_VRS = frozenset({"OB", "OW", "UN", None})
"""None in Implicit VR; unknown where somebody did not know better (PS3.5 6.2.2)."""

INFLATED_MAX_BYTES = 64 << 20
"""A few kilobytes can inflate to gigabytes. This is eight times the largest CT image, of 2048 x 2048 pixels.
The network takes no multi-frame image deflated; one in a file is skipped beyond this."""

# Leading zeros of a component are against PS3.5 9.1 but common in the field, and harmless to us.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_MAX_LENGTH = 64
_UNDEFINED_LENGTH = 0xFFFFFFFF
# Put behind the last byte: a parser that meets it there, and not inside a sequence or a value, has read a whole data
# set. Zeros, because discs and tapes fill files with them up to a full block: no data set holds the tag (0000,0000).
_END_TAG = 0
_END = bytes(8)

_GROUP_0008 = b"\x08\x00"
_GROUP_0008_BIG_ENDIAN = b"\x00\x08"
_FILE_META_GROUP = b"\x02\x00"
_PREAMBLE = bytes(128) + b"DICM"


def may_be_dicom(start: bytes) -> bool:
    """Whether a file that starts so may be one: with preamble, with file meta information, or with a data set alone.

    A data set alone begins with an element of group 0008.
    """
    is_data_set = start[:2] == _GROUP_0008 and len(start) > 8 and start[4:6] != b"\0\0"
    is_data_set |= start[:2] == _GROUP_0008_BIG_ENDIAN and start[4:6].isalpha()
    return start[:132].endswith(b"DICM") or start[:2] == _FILE_META_GROUP or is_data_set


def read_file_header(content: bytes) -> InstanceHeader:
    """Read the header of a file as people keep them: its file meta information is advice, the data set decides.

    Parameters
    ----------
    content : bytes
        Of a file that :func:`may_be_dicom`; without file meta information it is read as Implicit VR Little Endian, or
        as what it looks like.

    Raises
    ------
    RejectInstanceError
        As :func:`read_header`.
    """
    if content[:132].endswith(b"DICM"):
        return _header_of(content, is_file=True)
    if content[:2] == _FILE_META_GROUP:
        return _header_of(_PREAMBLE + content, is_file=True)
    is_big_endian = content[:2] == _GROUP_0008_BIG_ENDIAN
    syntax = f"{ExplicitVRBigEndian if is_big_endian else ImplicitVRLittleEndian}\0".encode()
    meta = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    return _header_of(_PREAMBLE + meta + content, is_file=True)


def read_header(part10: bytes) -> InstanceHeader:
    """Read the identity of an instance that was received and make sure that all of it is there.

    Parameters
    ----------
    part10 : bytes
        A DICOM File Format stream (PS3.10 section 7), its file meta information as the C-STORE request says.

    Returns
    -------
    InstanceHeader
        The instance's UIDs and its transfer syntax.

    Raises
    ------
    RejectInstanceError
        With status 0xC000 when the stream is no DICOM file or ends early, with 0xA900 when the data
        set is not what its SOP Class demands (PS3.4 Table B.2-1). Nothing else is ever raised.
    """
    return _header_of(part10, is_file=False)


def _header_of(part10: bytes, is_file: bool) -> InstanceHeader:
    try:
        with outside_bytes(_TruncatedError):
            return _read(part10, is_file)
    except _TruncatedError as error:
        raise _cannot_understand("the stream ends inside an element") from error
    except OutsideBytesError as error:
        raise _cannot_understand(f"not a readable DICOM stream ({error})") from error


def _read(part10: bytes, is_file: bool) -> InstanceHeader:
    file_meta, data_set = _parse(part10, is_file)
    _check_identity(data_set)
    if not is_file:
        _check_request(file_meta, data_set)
    _check_modality(data_set)
    _check_pixel_data(UID(file_meta.TransferSyntaxUID), data_set)
    return InstanceHeader(
        sop_class_uid=str(data_set.SOPClassUID),
        sop_instance_uid=str(data_set.SOPInstanceUID),
        study_instance_uid=str(data_set.StudyInstanceUID),
        series_instance_uid=str(data_set.SeriesInstanceUID),
        transfer_syntax_uid=str(file_meta.TransferSyntaxUID),
    )


class _TruncatedError(Exception):
    """The stream ended inside an element."""


class _WholeStream(BytesIO):
    """A stream that raises where others would return fewer bytes than asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise _TruncatedError
        return data


def _parse(part10: bytes, is_file: bool) -> tuple[Dataset, Dataset]:
    """Return file meta information and data set, both still raw."""
    stream = _WholeStream(part10 + _END)
    read_preamble(stream, force=False)
    # File meta information is always explicit VR little endian (PS3.10 7.1).
    file_meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_after_file_meta)
    _check_file_meta(file_meta)
    if is_file:  # without one: pydicom finds explicit or implicit VR by the first element
        file_meta.setdefault("TransferSyntaxUID", ImplicitVRLittleEndian)
    syntax = _known(UID(file_meta.TransferSyntaxUID))
    whole = part10
    if stream.tell() == len(part10):
        raise _cannot_understand("the data set is empty: no data set was sent, or one of 0 bytes")
    if syntax == DeflatedExplicitVRLittleEndian:
        whole = _inflated(part10[stream.tell() :])
        stream = _WholeStream(whole + _END)
    data_set = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=_at_end)
    if stream.tell() > len(whole) or any(whole[stream.tell() :]):
        raise _cannot_understand(f"the data set is broken at byte {stream.tell()} of {len(whole)}")
    if data_set.original_encoding != (syntax.is_implicit_VR, syntax.is_little_endian) and not is_file:
        raise _cannot_understand(f"the data set is not encoded as its transfer syntax {syntax} says")
    return file_meta, data_set


def _known(syntax: UID) -> UID:
    if syntax.is_private or not syntax.is_transfer_syntax:
        name = syntax if _is_uid(syntax) else "of its file meta information"
        raise _cannot_understand(f"the transfer syntax {name} is private or unknown: convert the image to another one")
    return syntax


def _check_file_meta(file_meta: Dataset) -> None:
    """PS3.10 7.1: all of it can be decoded, as everybody does who opens the file, and UIDs are written as UIDs."""
    for element in file_meta:
        if element.keyword in FILE_META_UIDS and element.VR != "UI":
            raise _cannot_understand(f"{element.keyword} of the file meta information is not written as a UID")


def _inflated(deflated: bytes) -> bytes:
    """Inflate a data set (PS3.5 A.5), which must be whole; its checksum may follow, and zeros."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, INFLATED_MAX_BYTES)
    if not inflater.eof and len(inflated) >= INFLATED_MAX_BYTES:
        raise _cannot_understand(f"the deflated data set has more than {INFLATED_MAX_BYTES} bytes")
    if not inflater.eof:
        raise _TruncatedError
    if any(inflater.unused_data) and not _is_checksum(inflater.unused_data, inflated):
        raise _cannot_understand("something follows the deflated data set")
    return inflated


def _is_checksum(rest: bytes, inflated: bytes) -> bool:
    """Whether what follows is what programs append that write gzip (RFC 1952) or zlib (RFC 1950) otherwise."""
    of_gzip = zlib.crc32(inflated).to_bytes(4, "little") + len(inflated).to_bytes(4, "little")
    of_zlib = zlib.adler32(inflated).to_bytes(4, "big")
    return any(rest.startswith(each) and not any(rest[len(each) :]) for each in (of_gzip, of_zlib))


def _after_file_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _at_end(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) == _END_TAG


def _check_identity(data_set: Dataset) -> None:
    """PS3.3 C.12.1: an instance without its UIDs cannot be filed."""
    if "DirectoryRecordSequence" in data_set:
        raise _does_not_match(DIRECTORY)
    for keyword in IDENTITY:
        if not _is_uid(data_set.get(keyword)):
            raise _does_not_match(f"{keyword} is missing or is not a UID")


def _check_request(file_meta: Dataset, data_set: Dataset) -> None:
    """PS3.7 9.1.1: a request repeats two UIDs of the data set, which the node wrote into the file meta information."""
    for meta_keyword, keyword in FILE_META_TWINS:
        if file_meta.get(meta_keyword) != data_set.get(keyword):
            raise _does_not_match(f"Affected {keyword} of the request is not that of the data set")


def _is_uid(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _UID_MAX_LENGTH and _UID.fullmatch(value) is not None


def _check_modality(data_set: Dataset) -> None:
    """PS3.3 C.8.2.1 and C.8.15.1: the Modality of a CT Image, in one frame or many, is CT."""
    if data_set.SOPClassUID in CT_STORAGE and str(data_set.get("Modality") or "").strip().upper() != "CT":
        raise _does_not_match(f"the SOP Class is {UID(data_set.SOPClassUID).name} but Modality is not CT")


def _check_pixel_data(syntax: UID, data_set: Dataset) -> None:
    """PS3.5 8.1 and A.4: native Pixel Data has at least the length its attributes ask for; other is encapsulated."""
    if "PixelData" not in data_set:
        others = [dictionary_description(each) for each in OTHER_PIXELS if each in data_set]
        if data_set.SOPClassUID in CT_STORAGE:
            raise _does_not_match(
                "Pixel Data is missing" + "".join(f": {each} has no place in a CT" for each in others)
            )
        return
    _check_sizes(data_set)
    element = data_set.get_item("PixelData")
    if element.VR not in PIXEL_DATA_VRS:
        raise _does_not_match(f"Pixel Data is written as {element.VR}")
    length = element.length if isinstance(element, RawDataElement) else len(element.value or b"")
    check = _check_encapsulated if syntax.is_encapsulated else _check_native
    check(data_set, length)


def _check_sizes(data_set: Dataset) -> None:
    """PS3.3 C.7.6.3.3: each is one number. pydicom multiplies what is there, and a list becomes as long as an image."""
    for keyword in SIZES:
        if not isinstance(data_set.get(keyword), int | None):
            raise _does_not_match(f"{keyword} is not one whole number")


def _check_native(data_set: Dataset, length: int) -> None:
    """PS3.5 8.1.1: it may be padded, and the bytes that belong to the image are taken; a whole frame is no padding."""
    missing = [dictionary_description(each) for each in SIZES[:-1] if data_set.get(each) is None]
    if missing:
        raise _does_not_match(f"{' and '.join(missing)} missing: the length of Pixel Data is not known")
    expected = get_expected_length(data_set, unit="bytes")
    frame = expected // (data_set.get("NumberOfFrames") or 1)
    if length == _UNDEFINED_LENGTH:
        raise _does_not_match("Pixel Data is compressed although its transfer syntax is not")
    if not expected <= length < expected + frame + expected % 2:
        raise _does_not_match(f"Pixel Data has {length} bytes where {expected} were expected")


def _check_encapsulated(_data_set: Dataset, length: int) -> None:
    if length != _UNDEFINED_LENGTH:
        raise _does_not_match("Pixel Data is not encapsulated although its transfer syntax is compressed")


def _refusal(status: int) -> Callable[[str], RejectInstanceError]:
    return lambda reason: RejectInstanceError(status, reason)


_cannot_understand = _refusal(CANNOT_UNDERSTAND)
_does_not_match = _refusal(DATA_SET_DOES_NOT_MATCH)
