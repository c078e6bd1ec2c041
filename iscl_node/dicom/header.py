"""Reads what must be known of an instance before its sender gets an answer, and refuses what is not whole.

The bytes come from other machines, so nothing is assumed of them: the stream is parsed to its very
end, without decoding a pixel, and every doubt ends in a refusal while the sender still has its copy.
"""

import re
import zlib
from collections.abc import Callable
from io import BytesIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.utils import get_expected_length
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from iscl_node.domain import CT_STORAGE, InstanceHeader
from iscl_node.errors import RejectInstanceError

CANNOT_UNDERSTAND = 0xC000
"""C-STORE failure status of PS3.4 Table B.2-1: the stream cannot be read."""
DATA_SET_DOES_NOT_MATCH = 0xA900
"""C-STORE failure status of PS3.4 Table B.2-1: it can be read, but it is not what its SOP Class demands."""

IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
"""The UIDs of PS3.3 C.12.1, C.7.2.1 and C.7.3.1 without which an instance cannot be filed."""

FILE_META_TWINS = (("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"))
"""File meta attributes that repeat one of the data set (PS3.10 Table 7.1-1)."""

FILE_META_UIDS = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")

SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
"""What the length of native Pixel Data is computed from (PS3.5 8.1.1)."""

PIXEL_DATA_VRS = frozenset({"OB", "OW", "UN", None})
"""None in Implicit VR; unknown where somebody did not know better (PS3.5 6.2.2)."""

INFLATED_MAX_BYTES = 64 << 20
"""A few kilobytes can inflate to gigabytes. This is eight times the largest CT image, of 2048 x 2048 pixels.
The network takes no multi-frame image deflated; one in a file is skipped beyond this."""

# Leading zeros of a component are against PS3.5 9.1 but common in the field, and harmless to us.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_MAX_LENGTH = 64
_UNDEFINED_LENGTH = 0xFFFFFFFF
# An element no data set can hold, put behind the last byte: a parser that meets it there, and not
# inside a sequence or a value, has read a whole data set. The VR keeps it readable as explicit VR.
_SENTINEL_TAG = 0xFFFFFFFF
_SENTINEL = b"\xff\xff\xff\xffLO\x00\x00"


def read_header(part10: bytes) -> InstanceHeader:
    """Read the identity of an instance and make sure that all of it is there.

    Parameters
    ----------
    part10 : bytes
        A DICOM File Format stream (PS3.10 section 7).

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
    try:
        return _read(part10)
    except RejectInstanceError:
        raise
    except _TruncatedError as error:
        raise _cannot_understand("the stream ends inside an element") from error
    except Exception as error:
        # Broad on purpose: foreign bytes make the parser raise almost anything, down to RecursionError.
        # The parser's message may quote a value, hence patient data: only its class is told.
        raise _cannot_understand(f"not a readable DICOM stream ({type(error).__name__})") from error


def _read(part10: bytes) -> InstanceHeader:
    file_meta, data_set = _parse(part10)
    _check_identity(file_meta, data_set)
    _check_modality(data_set)
    _check_pixel_data(file_meta, data_set)
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


def _parse(part10: bytes) -> tuple[Dataset, Dataset]:
    """Return file meta information and data set, both still raw."""
    stream = _WholeStream(part10 + _SENTINEL)
    read_preamble(stream, force=False)
    # File meta information is always explicit VR little endian (PS3.10 7.1).
    file_meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_after_file_meta)
    _check_file_meta(file_meta)
    syntax = UID(file_meta.TransferSyntaxUID)
    length = len(part10)
    if syntax == DeflatedExplicitVRLittleEndian:
        inflated = _inflated(part10[stream.tell() :])
        stream, length = _WholeStream(inflated + _SENTINEL), len(inflated)
    data_set = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=_at_sentinel)
    if stream.tell() != length:
        raise _cannot_understand(f"the data set is broken at byte {stream.tell()} of {length}")
    if data_set.original_encoding != (syntax.is_implicit_VR, syntax.is_little_endian):
        raise _cannot_understand(f"the data set is not encoded as its transfer syntax {syntax} says")
    return file_meta, data_set


def _check_file_meta(file_meta: Dataset) -> None:
    """PS3.10 7.1: all of it can be decoded, as everybody does who opens the file, and UIDs are written as UIDs."""
    for element in file_meta:
        if element.keyword in FILE_META_UIDS and element.VR != "UI":
            raise _cannot_understand(f"{element.keyword} of the file meta information is not written as a UID")


def _inflated(deflated: bytes) -> bytes:
    """Inflate a data set (PS3.5 A.5), which must be whole: a null byte may follow, to make the length even."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, INFLATED_MAX_BYTES)
    if not inflater.eof and len(inflated) >= INFLATED_MAX_BYTES:
        raise _cannot_understand(f"the deflated data set has more than {INFLATED_MAX_BYTES} bytes")
    if not inflater.eof:
        raise _TruncatedError
    if inflater.unused_data not in (b"", b"\0"):
        raise _cannot_understand("something follows the deflated data set")
    return inflated


def _after_file_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group > 2


def _at_sentinel(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) == _SENTINEL_TAG


def _check_identity(file_meta: Dataset, data_set: Dataset) -> None:
    """PS3.3 C.12.1: an instance without its UIDs cannot be filed; PS3.10 7.1: file meta repeats two of them."""
    for keyword in IDENTITY:
        if not _is_uid(data_set.get(keyword)):
            raise _does_not_match(f"{keyword} is missing or is not a UID")
    for meta_keyword, keyword in FILE_META_TWINS:
        if file_meta.get(meta_keyword) != data_set.get(keyword):
            raise _does_not_match(f"{meta_keyword} of the file meta information is not the data set's {keyword}")


def _is_uid(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _UID_MAX_LENGTH and _UID.fullmatch(value) is not None


def _check_modality(data_set: Dataset) -> None:
    """PS3.3 C.8.2.1 and C.8.15.1: the Modality of a CT Image, in one frame or many, is CT."""
    if data_set.SOPClassUID in CT_STORAGE and data_set.get("Modality") != "CT":
        raise _does_not_match(f"the SOP Class is {UID(data_set.SOPClassUID).name} but Modality is not CT")


def _check_pixel_data(file_meta: Dataset, data_set: Dataset) -> None:
    """PS3.5 8.1 and A.4: native Pixel Data has exactly the length its attributes ask for; other is encapsulated."""
    if "PixelData" not in data_set:
        if data_set.SOPClassUID in CT_STORAGE:
            raise _does_not_match("Pixel Data is missing")
        return
    _check_sizes(data_set)
    element = data_set.get_item("PixelData")
    if element.VR not in PIXEL_DATA_VRS:
        raise _does_not_match(f"Pixel Data is written as {element.VR}")
    length = element.length if isinstance(element, RawDataElement) else None
    check = _check_encapsulated if UID(file_meta.TransferSyntaxUID).is_encapsulated else _check_native
    check(data_set, length)


def _check_sizes(data_set: Dataset) -> None:
    """PS3.3 C.7.6.3.3: each is one number. pydicom multiplies what is there, and a list becomes as long as an image."""
    for keyword in SIZES:
        if not isinstance(data_set.get(keyword), int | None):
            raise _does_not_match(f"{keyword} is not one whole number")


def _check_native(data_set: Dataset, length: int | None) -> None:
    expected = get_expected_length(data_set, unit="bytes")
    if length not in (expected, expected + expected % 2):
        raise _does_not_match(f"Pixel Data has {length} bytes where {expected} were expected")


def _check_encapsulated(_data_set: Dataset, length: int | None) -> None:
    if length != _UNDEFINED_LENGTH:
        raise _does_not_match("Pixel Data is not encapsulated although its transfer syntax is compressed")


def _refusal(status: int) -> Callable[[str], RejectInstanceError]:
    return lambda reason: RejectInstanceError(status, reason)


_cannot_understand = _refusal(CANNOT_UNDERSTAND)
_does_not_match = _refusal(DATA_SET_DOES_NOT_MATCH)
