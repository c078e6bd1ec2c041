"""Is something missing in a series? Found from the positions of its slices, in headers alone.

A gap is an interval that is too long for its place: longer than 1.5 times the usual one there, while the Instance
Numbers on its two sides are not consecutive. The factor lies in the middle between 1, a regular interval, and 2, one
missing slice. What is usual is looked for in the neighbourhood, because head CT is often made of two regular blocks
with different intervals.

A sender that stopped after a contiguous part of a series leaves no gap: only a list of the instances can show that.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from statistics import median, median_high
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from iscl_node.dicom.reading.frames import is_multiframe
from iscl_node.dicom.reading.values import numbers

GAP_FACTOR: Final = 1.5
"""An interval that is longer than this many usual ones is a gap."""

SAME_POSITION_MM: Final = 0.01
"""Slices that are closer than this lie at one position; the finest intervals of CT are ten times as long."""

SAME_ORIENTATION: Final = 0.001
"""Direction cosines that differ by less are one orientation: 0.06 degrees."""

FARTHEST_MM: Final = 1e6
"""No scanner is a kilometer long: what lies farther away has no position."""

_NEIGHBORS: Final = 3
"""Regular intervals on each side that decide what is usual: the median of three bears one that is a gap too."""

_GAPS_TOLD: Final = 3


@dataclass(frozen=True)
class Slice:
    """The place of an instance in the series; None where its header says nothing usable.

    ``orientation`` are the six direction cosines of Image Orientation, ``corner`` is Image Position in mm (PS3.3
    C.7.6.2.1.1), ``number`` the Instance Number. ``has_frames`` is true of multi-frame CT.
    """

    orientation: tuple[float, ...] | None
    corner: tuple[float, ...] | None
    number: float | None
    has_frames: bool = False


@dataclass(frozen=True)
class Coverage:
    """How many slices are missing at least, and where, in words; None if the headers do not show it."""

    missing: int | None
    where: str = ""


NOT_JUDGED: Final = Coverage(None)
COMPLETE: Final = Coverage(0)


@dataclass(frozen=True)
class _Gap:
    missing: int
    text: str


def slice_of(instance: Dataset) -> Slice:
    """Read the place of an instance; no value of it raises an error."""
    return Slice(
        _near(_read(instance, "ImageOrientationPatient", 6)),
        _near(_read(instance, "ImagePositionPatient", 3)),
        next(iter(_near(_read(instance, "InstanceNumber", 1)) or ()), None),
        is_multiframe(instance),
    )


def coverage(slices: Sequence[Slice]) -> Coverage:
    """Find what is missing between the slices of a series.

    Parameters
    ----------
    slices : sequence of Slice
        Of all instances of the series that are there, in any order.

    Returns
    -------
    Coverage
        By position along the normal of each orientation; by Instance Number where a position is missing. A multi-frame
        instance brings all its frames with it, so nothing can be missing of it. Of one or two slices nothing is known
        to be missing.
    """
    if any(each.has_frames for each in slices):
        return COMPLETE
    if all(each.orientation is not None and each.corner is not None for each in slices):
        gaps = [gap for stack in _stacks(slices) for gap in _gaps_by_position(stack)]
    else:
        counted = sorted(each.number for each in slices if each.number is not None)
        if len(set(counted)) < len(slices):
            return NOT_JUDGED
        gaps = list(_gaps_by_number(counted))
    return _told(gaps)


def _read(instance: Dataset, keyword: str, count: int) -> list[float] | None:
    try:
        return numbers(instance, keyword, count)
    except (ArithmeticError, LookupError, RuntimeError):  # pydicom converts a value when it is read
        return None


def _near(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None or max(map(abs, values)) > FARTHEST_MM else tuple(values)


def _told(gaps: Sequence[_Gap]) -> Coverage:
    told = [gap.text for gap in gaps[:_GAPS_TOLD]]
    if len(gaps) > _GAPS_TOLD:
        told.append(f"gaps in {len(gaps) - _GAPS_TOLD} more places")
    return Coverage(sum(gap.missing for gap in gaps), "; ".join(told))


def _stacks(slices: Sequence[Slice]) -> Iterator[list[tuple[float, float | None]]]:
    """Position along the normal in mm and Instance Number of the slices of each orientation, sorted by position."""
    orientations = np.array([each.orientation for each in slices])
    corners = np.array([each.corner for each in slices])
    rest = np.arange(len(slices))
    while rest.size:
        orientation = orientations[rest[0]]
        is_alike = (np.abs(orientations[rest] - orientation) < SAME_ORIENTATION).all(axis=1)
        positions = corners[rest[is_alike]] @ np.cross(orientation[:3], orientation[3:])
        counted = [slices[index].number for index in rest[is_alike]]
        yield sorted(zip(positions.tolist(), counted, strict=True), key=lambda each: each[0])
        rest = rest[~is_alike]


def _gaps_by_position(stack: Sequence[tuple[float, float | None]]) -> Iterator[_Gap]:
    """Gaps between positions, and positions with fewer images than the others (several phases in one series)."""
    groups = _same_positions(stack)
    positions = [group[0][0] for group in groups]
    usual_count = median_high([len(group) for group in groups])
    for group in groups:
        if len(group) < usual_count:
            lacking = usual_count - len(group)
            yield _Gap(lacking, f"{lacking} of {usual_count} images missing at {group[0][0]:.1f} mm")
    follows = [_are_consecutive(before, after) for before, after in pairwise(groups)]
    for index, missing in _long_intervals(positions, follows):
        many = "slices" if missing > 1 else "slice"
        yield _Gap(
            missing * usual_count,
            f"{missing} {many} missing between {positions[index]:.1f} and {positions[index + 1]:.1f} mm",
        )


def _same_positions(stack: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float | None]]]:
    groups: list[list[tuple[float, float | None]]] = []
    for each in stack:
        if groups and each[0] - groups[-1][0][0] < SAME_POSITION_MM:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _are_consecutive(before: Sequence[tuple[float, float | None]], after: Sequence[tuple[float, float | None]]) -> bool:
    """Whether an Instance Number follows another one, in either direction, so that nothing lies between."""
    pairs = product(before, after)
    return any(a is not None and b is not None and abs(a - b) == 1 for (_, a), (_, b) in pairs)


def _gaps_by_number(counted: Sequence[float]) -> Iterator[_Gap]:
    follows = [after - before == 1 for before, after in pairwise(counted)]
    for index, missing in _long_intervals(counted, follows):
        first, last = counted[index], counted[index + 1]
        yield _Gap(missing, f"{missing} missing between Instance Numbers {first:g} and {last:g}")


def _long_intervals(places: Sequence[float], follows: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """The intervals that are too long, by index, and how many places are missing in each.

    Parameters
    ----------
    places : sequence of float
        Sorted.
    follows : sequence of bool
        For each interval, whether it is known that nothing is missing in it. If that is known of some, they tell what
        is usual, otherwise all do.
    """
    intervals = [after - before for before, after in pairwise(places)]
    regular = [index for index, known in enumerate(follows) if known] or list(range(len(intervals)))
    for index, interval in enumerate(intervals):
        if follows[index]:
            continue
        usual = _usual(intervals, regular, index)
        if interval > GAP_FACTOR * usual:
            yield index, max(1, round(interval / usual) - 1)


def _usual(intervals: Sequence[float], regular: Sequence[int], index: int) -> float:
    """The usual interval around one: before or behind it, whichever is longer; infinite if there is no other."""
    first, last = bisect_left(regular, index), bisect_right(regular, index)
    sides = regular[max(0, first - _NEIGHBORS) : first], regular[last : last + _NEIGHBORS]
    return max((median(intervals[each] for each in side) for side in sides if side), default=math.inf)
