"""Values under another value representation than the standard's (PS3.6), as converters write them.

What can be meant in one way only gets the standard's: a text another kind of text, and a number, written as text or in
binary, the number that it is. Archives and viewers refuse, or show nothing of, what has another.
"""

import math
import re
import struct
from collections.abc import Sequence
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.valuerep import STANDARD_VR

_TEXTS: Final = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_DECIMAL: Final = frozenset({"DS", "IS"})
_BINARY: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
"""Format of the module struct by value representation (PS3.5 6.2)."""
_FORMS: Final = {
    "DS": re.compile(rb"(?=.{1,16}$) *[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? *"),
    "IS": re.compile(rb"(?=.{1,12}$) *[+-]?\d+ *"),
}
"""PS3.5 6.2."""
_WITH_BACKSLASH: Final = frozenset({"LT", "ST", "UT", "UR"})
"""Texts of one value, in which a backslash parts nothing."""
_LONGEST: Final = 16
"""Characters of a DS (PS3.5 6.2)."""
_UNDECIDED: Final = frozenset({"", "UN"})


def has_another(element: RawDataElement) -> bool:
    """Whether an element is written under another value representation than the standard's; private ones never are."""
    written = element.VR or ""
    if written in _UNDECIDED or not dictionary_has_tag(element.tag):
        return False
    return written not in dictionary_VR(element.tag).split(" or ")


def as_of_the_standard(element: RawDataElement) -> RawDataElement | None:
    """Return the element under the standard's value representation; None where its value cannot be one of it.

    Parameters
    ----------
    element : RawDataElement
        Of which `has_another` is true.

    Returns
    -------
    RawDataElement or None
        In little endian.
    """
    written, meant = element.VR or "", dictionary_VR(element.tag)
    value = element.value or b""
    if written not in STANDARD_VR:  # there is none such: the bytes are what they should be
        return None if meant == "SQ" else _replaced(element, meant, value)
    if written in _TEXTS | _DECIMAL and meant in _TEXTS:
        is_several = b"\\" in value and (written in _WITH_BACKSLASH) != (meant in _WITH_BACKSLASH)
        return None if is_several else _replaced(element, meant, value)
    if written in _TEXTS | _DECIMAL and _is_decimal(value, meant):
        return _replaced(element, meant, value)
    numbers = _numbers(written, value, element.is_little_endian)
    encoded = None if numbers is None else _encoded(meant, numbers)
    return None if encoded is None else _replaced(element, meant, encoded)


def _replaced(element: RawDataElement, vr: str, value: bytes) -> RawDataElement:
    even = value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    return element._replace(VR=vr, value=even, length=len(even), is_little_endian=True)


def _is_decimal(value: bytes, vr: str) -> bool:
    """Whether a text is what a DS or an IS holds: it stays the text that it is."""
    form = _FORMS.get(vr)
    return form is not None and all(form.fullmatch(part) for part in value.rstrip(b" \0").split(b"\\"))


def _numbers(vr: str, value: bytes, is_little_endian: bool) -> list[float] | None:
    """Read numbers, from binary or from text; an empty value has none. None where they are not."""
    try:
        if vr in _BINARY:
            return [number for (number,) in struct.iter_unpack(_format(vr, is_little_endian), value)]
        if vr in _TEXTS | _DECIMAL and value.strip(b" \0"):
            return [float(part.strip(b" \0")) for part in value.split(b"\\")]
    except (struct.error, ValueError):
        return None
    return None if value.strip(b" \0") else []


def _encoded(vr: str, numbers: Sequence[float]) -> bytes | None:
    """Write numbers in little endian; None where one has no place in it."""
    if not all(map(math.isfinite, numbers)):
        return None
    is_whole = all(float(number).is_integer() for number in numbers)
    if vr in _DECIMAL:
        texts = [_decimal(number) for number in numbers]
        fits = (is_whole or vr == "DS") and all(len(text) <= _LONGEST for text in texts)
        return "\\".join(texts).encode() if fits else None
    if vr not in _BINARY or not (is_whole or vr in ("FD", "FL")):
        return None
    values = numbers if vr in ("FD", "FL") else map(int, numbers)
    try:
        return b"".join(struct.pack(_format(vr, True), value) for value in values)
    except (OverflowError, struct.error):
        return None


def _decimal(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e12 else f"{number:.10g}"


def _format(vr: str, is_little_endian: bool) -> str:
    return ("<" if is_little_endian else ">") + _BINARY[vr]
