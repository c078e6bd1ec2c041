"""Reads the conditions of a rule from its ``when`` table, and names every fault in it by its key."""

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import re2
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from iscl_node.dicom.selecting.conditions import (
    Absence,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Matching,
    Not,
    OneOf,
    ValueTest,
    Within,
    compiled,
)

WITHOUT_TEXT_FORM: Final = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
"""Value representations (PS3.5 6.2) that nothing in a rule can be compared with."""
NUMBERS: Final = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"})
"""Value representations that are numbers, for ``min`` and ``max``."""

LONGEST_PATTERN: Final = 500


class FaultyTableError(ValueError):
    """A ``when`` table that cannot be used; ``faults`` has a line for each reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def read_conditions(when: Mapping[str, Any]) -> Condition:
    """Return the condition that a ``when`` table stands for; an empty one always holds.

    Raises
    ------
    FaultyTableError
        With every fault, each behind its key as in ``when.KVP``.
    """
    reader = _Reader()
    condition = reader.table(when, "when")
    if reader.faults:
        raise FaultyTableError(reader.faults)
    return condition


class _Reader:
    """Walks through a table and goes on after a fault, so that all are reported at once."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def table(self, table: Any, key: str) -> Condition:
        """Read a table of conditions."""
        if not isinstance(table, Mapping):
            return self._fault(key, f"is {table!r}, not a table of conditions")
        groups: dict[str, Callable[[Any, str], Condition]] = {"any": self._any, "all": self._all, "not": self._not}
        parts = tuple(groups.get(name, self._attribute)(value, f"{key}.{name}") for name, value in table.items())
        return parts[0] if len(parts) == 1 else AllOf(parts)

    def _fault(self, key: str, text: str) -> Condition:
        """Note a fault; what is returned is never used."""
        self.faults.append(f"{key} {text}")
        return AllOf(())

    def _any(self, tables: Any, key: str) -> Condition:
        return AnyOf(self._tables(tables, key))

    def _all(self, tables: Any, key: str) -> Condition:
        return AllOf(self._tables(tables, key))

    def _not(self, table: Any, key: str) -> Condition:
        if table == {}:
            return self._fault(key, "is empty, so it would never hold")
        return Not(self.table(table, key))

    def _tables(self, tables: Any, key: str) -> tuple[Condition, ...]:
        if not isinstance(tables, list) or not tables or {} in tables:
            self._fault(key, "must be a list of tables of conditions, none of them empty")
            return ()
        return tuple(self.table(table, f"{key}[{index}]") for index, table in enumerate(tables))

    def _attribute(self, wanted: Any, key: str) -> Condition:
        keyword = key.rpartition(".")[2]
        tag = tag_for_keyword(keyword)
        if tag is None:
            return self._fault(key, f"is an unknown attribute keyword{_hint(keyword)}")
        vr = dictionary_VR(tag)
        if vr in WITHOUT_TEXT_FORM:
            return self._fault(key, f"cannot be compared with anything (VR {vr})")
        if not isinstance(wanted, Mapping):
            return Comparison(keyword, self._one_of([wanted], key))
        if wanted in ({"present": True}, {"present": False}):
            return Comparison(keyword, ()) if wanted["present"] else Absence(keyword)
        return Comparison(keyword, self._tests(wanted, key, vr))

    def _tests(self, wanted: Mapping[str, Any], key: str, vr: str) -> tuple[ValueTest, ...]:
        unknown = sorted(set(wanted) - {"in", "min", "max", "matches"})
        if unknown or not wanted:
            what = f"has {unknown[0]!r}" if unknown else "is empty"
            self._fault(key, f"{what}; it may have in, min, max and matches, or present = true or false alone")
            return ()
        tests: list[ValueTest] = []
        if "in" in wanted:
            tests += self._one_of(wanted["in"], f"{key}.in")
        if "min" in wanted or "max" in wanted:
            tests += self._within(wanted.get("min", -math.inf), wanted.get("max", math.inf), key, vr)
        if "matches" in wanted:
            tests += self._matching(wanted["matches"], f"{key}.matches")
        return tuple(tests)

    def _one_of(self, expected: Any, key: str) -> tuple[ValueTest, ...]:
        if not isinstance(expected, list) or not expected or not all(map(_is_text_or_number, expected)):
            self._fault(key, "must be a text or a number, or with 'in' a list of some")
            return ()
        return (OneOf(tuple(expected)),)

    def _within(self, low: Any, high: Any, key: str, vr: str) -> tuple[ValueTest, ...]:
        if vr not in NUMBERS:
            self._fault(key, f"has min or max, but its values are no numbers (VR {vr})")
        elif not (_is_number(low) and _is_number(high)):
            self._fault(key, "has a min or max that is no number")
        elif not low <= high:
            self._fault(key, f"has min {low:g} above max {high:g}")
        return (Within(low, high),)

    def _matching(self, pattern: Any, key: str) -> tuple[ValueTest, ...]:
        if not isinstance(pattern, str) or not 0 < len(pattern) <= LONGEST_PATTERN:
            self._fault(key, f"must be a regular expression of 1 to {LONGEST_PATTERN} characters")
            return ()
        try:
            compiled(pattern)
        except re2.error as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
            self._fault(key, f"is no regular expression of RE2: {reason}")
        return (Matching(pattern),)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text_or_number(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _hint(keyword: str) -> str:
    close = get_close_matches(keyword, keyword_dict, n=1)
    return f", did you mean {close[0]}?" if close else ""
