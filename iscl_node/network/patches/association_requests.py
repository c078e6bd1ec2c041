"""An A-ASSOCIATE-RQ as devices write it, made into one that means the same and can be decoded (PS3.8 9.3.1, 9.3.2).

Replaces ``DULServiceProvider._decode_pdu``. pynetdicom 3.0.4 aborts at AE titles that are blank, padded with NUL or
have characters that none may have, and at items that it does not know; it rejects a protocol version with other bits
than the one to test. Its issues 746 and 921.
"""

import struct
from collections.abc import Callable, Mapping

from pynetdicom.association import Association

NO_TITLE = "(no AE title)"
"""Stands for a blank AE title, which no peer can have: it is rejected."""

_A_ASSOCIATE_RQ = 0x01
_FIXED = struct.Struct(">BxLHxx16s16s32x")
"""Type, length, protocol version, called and calling AE title (PS3.8 Table 9-11)."""
_ITEM = struct.Struct(">BxH")
_VERSION_TO_TEST = 1
"""Bit 0: other versions may be named beside it (PS3.8 Table 9-11)."""

_Rewrite = Callable[[bytes], bytes]


def understand(association: Association) -> None:
    """Have association requests read as they are meant.

    Parameters
    ----------
    association : Association
        Before its first PDU is read.
    """
    decode = association.dul._decode_pdu

    def decode_what_is_meant(pdu: bytearray) -> object:
        meant = as_meant(bytes(pdu))
        calling = calling_ae_title(meant)
        if calling:
            association.requestor.ae_title = calling  # for the log, if the rest cannot be decoded
        return decode(bytearray(meant))

    association.dul._decode_pdu = decode_what_is_meant  # type: ignore[method-assign, assignment]  # no other way in


def as_meant(pdu: bytes) -> bytes:
    """Return an A-ASSOCIATE-RQ that pynetdicom can decode; another PDU, or one that is cut off, as it is."""
    if pdu[:1] != bytes([_A_ASSOCIATE_RQ]) or len(pdu) < _FIXED.size:
        return pdu
    kind, _, version, called, calling = _FIXED.unpack_from(pdu)
    items = _known_items(pdu[_FIXED.size :], _ITEMS)
    length = _FIXED.size - 6 + len(items)  # the header, which is not counted, has six bytes
    return _FIXED.pack(kind, length, version & _VERSION_TO_TEST, _title(called), _title(calling)) + items


def calling_ae_title(pdu: bytes) -> str:
    """The calling AE title of an A-ASSOCIATE-RQ, for the log; nothing of another PDU."""
    if pdu[:1] != bytes([_A_ASSOCIATE_RQ]) or len(pdu) < _FIXED.size:
        return ""
    return _title(_FIXED.unpack_from(pdu)[4]).decode().strip()


def _title(written: bytes) -> bytes:
    """An AE title up to the first NUL, with a question mark for each character that it must not have."""
    text = _printable(written.partition(b"\0")[0].strip())
    return (text or NO_TITLE.encode()).ljust(16)


def _printable(text: bytes) -> bytes:
    return bytes(each if 0x20 <= each < 0x7F and each != ord("\\") else ord("?") for each in text)


def _known_items(items: bytes, known: Mapping[int, _Rewrite]) -> bytes:
    """The items that are known, each rewritten; what is cut off stays, and the decoder breaks at it."""
    kept, offset = b"", 0
    while offset + _ITEM.size <= len(items):
        kind, length = _ITEM.unpack_from(items, offset)
        end = offset + _ITEM.size + length
        if end > len(items):
            break
        if kind in known:
            content = known[kind](items[offset + _ITEM.size : end])
            kept += _ITEM.pack(kind, len(content)) + content
        offset = end
    return kept + items[offset:]


def _uid(content: bytes) -> bytes:
    return content.strip(b" \0")


def _name(content: bytes) -> bytes:
    """An implementation version name: 1 to 16 characters for people."""
    return _printable(content.partition(b"\0")[0])[:16]


def _presentation_context(content: bytes) -> bytes:
    return content[:4] + _known_items(content[4:], {0x30: _uid, 0x40: _uid})


def _user_information(content: bytes) -> bytes:
    return _known_items(content, _USER_ITEMS)


_USER_ITEMS: Mapping[int, _Rewrite] = {
    **dict.fromkeys((0x51, 0x53, 0x54, 0x56, 0x57, 0x58), bytes),
    0x52: _uid,
    0x55: _name,
}
"""Of the user information (PS3.7 D.3.3)."""
_ITEMS: Mapping[int, _Rewrite] = {0x10: _uid, 0x20: _presentation_context, 0x50: _user_information}
