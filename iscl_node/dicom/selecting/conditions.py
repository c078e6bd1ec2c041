"""What a rule asks of a series: conditions on attributes, joined by and, or and not, as the settings write them.

A table of conditions holds when all of its entries do. An entry is one of

* ``Keyword = value``: the attribute has the value;
* ``Keyword = { in = [...], min = ..., max = ..., matches = "..." }``: one of its values stands all these tests;
* ``Keyword = { present = true }`` or ``false``: it has a value, or has none;
* ``any = [ {...}, {...} ]``, ``all = [ {...}, {...} ]``, ``not = { ... }``: some, each, or not the table.

Judging and explaining are one function, so that an explanation cannot differ from what the node does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import isinf
from typing import Any, Final, TypeAlias

import re2

Values: TypeAlias = Callable[[str], tuple[Any, ...]]
"""Gives the values of the attribute with a keyword; none where it is absent or empty."""

LONGEST_SHOWN: Final = 80
"""Characters of a value that an explanation shows."""


@dataclass(frozen=True)
class Finding:
    """What became of a condition: its words, whether it holds, what was found, and the same of its parts."""

    text: str
    holds: bool
    found: str = ""
    parts: tuple["Finding", ...] = ()


class Condition(ABC):
    """Something that holds for a series or does not."""

    @abstractmethod
    def finding(self, values: Values) -> Finding:
        """Judge it by the values of attributes."""


class ValueTest(ABC):
    """Something that one value stands or does not."""

    @abstractmethod
    def stands(self, value: Any) -> bool:
        """Whether the value is as it should be."""


@dataclass(frozen=True)
class OneOf(ValueTest):
    """The value is equal to one of these: as a number where it is one, else as text, case included."""

    expected: tuple[str | float, ...]

    def stands(self, value: Any) -> bool:
        return any(_is_equal(value, each) for each in self.expected)

    def __str__(self) -> str:
        texts = [f'"{each}"' if isinstance(each, str) else f"{each:g}" for each in self.expected]
        return f"is {texts[0]}" if len(texts) == 1 else f"is one of {', '.join(texts)}"


@dataclass(frozen=True)
class Within(ValueTest):
    """The value is a number from ``low`` to ``high``, both included."""

    low: float
    high: float

    def stands(self, value: Any) -> bool:
        with suppress(TypeError, ValueError):
            return self.low <= float(value) <= self.high
        return False

    def __str__(self) -> str:
        if isinf(self.high):
            return f"is at least {self.low:g}"
        return f"is at most {self.high:g}" if isinf(self.low) else f"is from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Matching(ValueTest):
    """A part of the value matches a regular expression in the syntax of RE2.

    RE2 takes time in proportion to the text, with any expression: neither can hold up the node.
    """

    pattern: str

    def stands(self, value: Any) -> bool:
        return compiled(self.pattern).search(str(value).strip()) is not None

    def __str__(self) -> str:
        return f"matches '{self.pattern}'"


@dataclass(frozen=True)
class Comparison(Condition):
    """One of the attribute's values stands all tests; without tests, there is a value."""

    keyword: str
    tests: tuple[ValueTest, ...]

    def finding(self, values: Values) -> Finding:
        found = values(self.keyword)
        holds = any(all(test.stands(value) for test in self.tests) for value in found)
        text = " and ".join(map(str, self.tests)) or "is present"
        return Finding(f"{self.keyword} {text}", holds, _shown(found))


@dataclass(frozen=True)
class Absence(Condition):
    """The attribute has no value."""

    keyword: str

    def finding(self, values: Values) -> Finding:
        found = values(self.keyword)
        return Finding(f"{self.keyword} is absent", not found, _shown(found))


@dataclass(frozen=True)
class AllOf(Condition):
    """Each of the parts holds; without parts it always does."""

    parts: tuple[Condition, ...]

    def finding(self, values: Values) -> Finding:
        parts = tuple(part.finding(values) for part in self.parts)
        return Finding("all of" if parts else "every series", all(part.holds for part in parts), parts=parts)


@dataclass(frozen=True)
class AnyOf(Condition):
    """One of the parts holds, or several."""

    parts: tuple[Condition, ...]

    def finding(self, values: Values) -> Finding:
        parts = tuple(part.finding(values) for part in self.parts)
        return Finding("any of", any(part.holds for part in parts), parts=parts)


@dataclass(frozen=True)
class Not(Condition):
    """The part does not hold."""

    part: Condition

    def finding(self, values: Values) -> Finding:
        part = self.part.finding(values)
        return Finding("not", not part.holds, parts=(part,))


def compiled(pattern: str) -> Any:
    """Return the compiled expression (RE2 keeps the last ones).

    Raises
    ------
    re2.error
        If it is none, or wants what needs more than time in proportion: look-around, back-references.
    """
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _is_equal(value: Any, expected: str | float) -> bool:
    if isinstance(value, int | float):
        with suppress(ValueError):
            return float(value) == float(expected)
    return str(value).strip() == str(expected)


def _shown(found: tuple[Any, ...]) -> str:
    text = "\\".join(str(value).strip() for value in found)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
