"""Reads numbers and codes of a data set, as people write them: blanks around them say nothing (PS3.5 6.2).

What cannot be decoded is as if it were absent; nothing is changed in the data set.
"""

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from iscl_node.dicom.reading.legible import value_of


def numbers(dataset: Dataset, keyword: str, count: int) -> list[float] | None:
    """Return the numbers of an attribute, or None where it is absent, empty, or not what it should be."""
    try:
        values = [float(value) for value in np.atleast_1d(_value(dataset, keyword))]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the only number of an attribute, as :func:`numbers`."""
    values = numbers(dataset, keyword, 1)
    return None if values is None else values[0]


def codes(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a code string in capitals and without blanks; none where it is absent or empty."""
    value = _value(dataset, keyword)
    values = (value,) if value is None or isinstance(value, str) else tuple(value)
    return tuple(str(each or "").strip(" \0").upper() for each in values) if any(values) else ()


def code(dataset: Dataset, keyword: str) -> str:
    """Return the first value of a code string, as :func:`codes`; empty where there is none."""
    return next(iter(codes(dataset, keyword)), "")


def _value(dataset: Dataset, keyword: str) -> Any:
    element = value_of(dataset, Tag(keyword))
    return None if element is None else element.value
