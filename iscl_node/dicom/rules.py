"""Which rule of the settings applies to a series: attribute keywords compared with the values they must have."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import combinations
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from iscl_node.dicom.derived import OWN_NUMBERS
from iscl_node.dicom.uids import strength_number
from iscl_node.domain import Rule
from iscl_node.errors import ConfigurationError

WITHOUT_TEXT_FORM: Final = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
"""Value representations (PS3.5 6.2) that no text in a rule can be compared with."""


def check_rule(rule: Rule) -> None:
    """Refuse a rule that could never match because it names no comparable attribute.

    Raises
    ------
    ConfigurationError
        For a keyword that is not in the data dictionary (PS3.6) or whose values have no text form, or as
        :func:`check_strengths`.
    """
    for keyword in rule.when:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ConfigurationError(f"rule {rule.name!r}: unknown attribute keyword {keyword!r}{_hint(keyword)}")
        if dictionary_VR(tag) in WITHOUT_TEXT_FORM:
            raise ConfigurationError(f"rule {rule.name!r}: {keyword} cannot be compared with a text")
    try:
        check_strengths(rule.strengths)
    except ConfigurationError as error:
        raise ConfigurationError(f"rule {rule.name!r}: {error}") from error


def check_strengths(strengths: Sequence[float]) -> None:
    """Refuse strengths whose derived series would have the same Series Number.

    Raises
    ------
    ConfigurationError
        Naming the first two; strengths in steps of 0.05 never collide.
    """
    for one, other in combinations(strengths, 2):
        if strength_number(one, OWN_NUMBERS) == strength_number(other, OWN_NUMBERS):
            raise ConfigurationError(
                f"strengths {one:g} and {other:g} would give the same Series Number; take steps of 0.05"
            )


def matches(when: Mapping[str, str], dataset: Dataset) -> bool:
    """Tell whether every attribute named has the value asked for; of several values any one will do.

    Numbers are compared as such, so that ``"120"`` matches a KVP written as ``120.0``; all else as text, case included.
    """
    return all(
        any(_is_equal(value, expected) for value in _values(dataset, keyword)) for keyword, expected in when.items()
    )


def choose_rule(rules: Iterable[Rule], dataset: Dataset) -> Rule | None:
    """Return the first rule that matches, in the order of the settings, or None."""
    return next((rule for rule in rules if matches(rule.when, dataset)), None)


def _values(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue) else (value,)
    return tuple(each for each in values if each is not None)


def _is_equal(value: Any, expected: str) -> bool:
    if isinstance(value, int | float):
        with suppress(ValueError):
            return float(value) == float(expected)
    return str(value).strip() == expected


def _hint(keyword: str) -> str:
    close = get_close_matches(keyword, keyword_dict, n=1)
    return f", did you mean {close[0]}?" if close else ""
