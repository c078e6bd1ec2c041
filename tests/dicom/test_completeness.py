"""What is missing in a series, told from headers."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import ct_dataset, ct_series
from hypothesis import given
from hypothesis import strategies as st
from multiframe import enhanced_ct
from pydicom import dcmread
from pydicom.dataset import Dataset

from iscl_node.dicom.selecting.completeness import COMPLETE, NOT_JUDGED, Coverage, Slice, coverage, slice_of

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (1.0, 0.0, 0.0, 0.0, 0.948, -0.317)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def at(
    positions: Sequence[float],
    counted: Sequence[float | None] | None = None,
    orientation: tuple[float, ...] = AXIAL,
) -> list[Slice]:
    """Slices at positions along the normal, in mm, with their Instance Numbers; without: 1, 2, ..."""
    normal = np.cross(orientation[:3], orientation[3:])
    told = range(1, len(positions) + 1) if counted is None else counted
    return [
        Slice(orientation, tuple(float(each) for each in normal * position), number)
        for position, number in zip(positions, told, strict=True)
    ]


def without(slices: Sequence[Slice], *indices: int) -> list[Slice]:
    return [each for index, each in enumerate(slices) if index not in indices]


def unnumbered(slices: Sequence[Slice]) -> list[Slice]:
    return [Slice(each.orientation, each.corner, None) for each in slices]


REGULAR = at([2.5 * index - 120 for index in range(20)])
HEAD = at([4.0 * index for index in range(14)] + [52 + 1.08 + 7.0 * index for index in range(14)], orientation=TILTED)
"""The intervals of a real head CT with gantry tilt: 13 of 4 mm, one of 1.08 mm, 13 of 7 mm."""


@pytest.mark.parametrize("slices", [[], REGULAR[:1], REGULAR[:2], REGULAR, HEAD], ids=len)
def test_nothing_is_missing(slices: list[Slice]) -> None:
    assert coverage(slices) == COMPLETE
    assert coverage(unnumbered(slices)) == COMPLETE
    assert coverage(slices[::-1]) == COMPLETE


def test_a_gap_is_told_in_words() -> None:
    assert coverage(without(REGULAR, 5, 6)) == Coverage(2, "2 slices missing between -110.0 and -102.5 mm")
    assert coverage(without(REGULAR, 18)) == Coverage(1, "1 slice missing between -77.5 and -72.5 mm")


def test_many_gaps_are_told_briefly() -> None:
    found = coverage(without(REGULAR, 2, 5, 8, 11, 14))
    assert found.missing == 5
    assert found.where.count(" mm") == 3
    assert found.where.endswith("gaps in 2 more places")


@pytest.mark.parametrize("index", [*range(2, 12), *range(16, 26)])
@pytest.mark.parametrize("prepare", [list, unnumbered])
def test_a_gap_within_a_block_of_regular_slices_is_found(index: int, prepare: Any) -> None:
    """Where the interval changes one may not be: there nothing tells what is usual."""
    assert coverage(without(prepare(HEAD), index)).missing == 1


def test_consecutive_numbers_explain_an_irregular_interval() -> None:
    positions = [0.0, 1, 2, 3, 50, 51, 52]
    assert coverage(at(positions)) == COMPLETE
    assert coverage(at(positions[::-1])) == COMPLETE
    assert coverage(at(positions, [1, 2, 3, 4, 51, 52, 53])).missing == 46


def test_the_numbers_tell_which_of_two_intervals_is_usual() -> None:
    """At the end every second slice is missing, so that the intervals alone are two regular blocks."""
    slices = at(range(20))
    assert coverage(without(slices, 12, 14, 16, 18)).missing == 4
    assert coverage(without(unnumbered(slices), 12, 14, 16, 18)) == COMPLETE


def test_each_orientation_is_judged_for_itself() -> None:
    coronal = at([7.0 * index for index in range(9)], orientation=CORONAL)
    assert coverage(REGULAR + coronal) == COMPLETE
    assert coverage(REGULAR + without(coronal, 4)).missing == 1


def test_radial_slices_have_no_gap() -> None:
    angles = np.linspace(0, np.pi, 40)
    slices = [Slice((np.cos(a), np.sin(a), 0.0, 0.0, 0.0, -1.0), (10.0, -5.0, 3.0), None) for a in angles]
    assert coverage(slices) == COMPLETE


@pytest.mark.parametrize("prepare", [list, unnumbered])
def test_each_position_has_as_many_images_as_the_others(prepare: Any) -> None:
    """Three phases in one series, with the phases behind each other."""
    phases = at([2.0 * (index % 10) for index in range(30)])
    assert coverage(prepare(phases)) == COMPLETE
    assert coverage(prepare(without(phases, 14))) == Coverage(1, "1 of 3 images missing at 8.0 mm")
    assert coverage(prepare(without(phases, 4, 14, 24))) == Coverage(3, "1 slice missing between 6.0 and 10.0 mm")


def test_a_slice_that_was_repeated_is_no_gap() -> None:
    assert coverage([*REGULAR, REGULAR[7]]) == COMPLETE


def test_without_positions_the_numbers_count() -> None:
    slices = [Slice(None, None, float(number)) for number in (11, 12, 13, 16, 17)]
    assert coverage(slices) == Coverage(2, "2 missing between Instance Numbers 13 and 16")
    assert coverage(slices[:3]) == COMPLETE
    assert coverage([*slices, slices[0]]) == NOT_JUDGED
    assert coverage([*slices, Slice(None, None, None)]) == NOT_JUDGED


def test_multi_frame_is_complete_with_its_frames() -> None:
    assert coverage([slice_of(enhanced_ct(3)), *without(REGULAR, 5)]) == COMPLETE


def test_an_instance_tells_its_place() -> None:
    (first, *_) = ct_series(2, spacing_mm=2.5)
    assert slice_of(first) == Slice(AXIAL, (-32.0, -32.0, 2.5), 1.0)


@pytest.mark.parametrize(
    "overrides",
    [
        {"ImagePositionPatient": None, "ImageOrientationPatient": None, "InstanceNumber": None},
        {"ImagePositionPatient": [1, 2], "ImageOrientationPatient": [1], "InstanceNumber": ""},
        {"ImagePositionPatient": [1e300, 0, 0], "ImageOrientationPatient": [1e300] * 6, "InstanceNumber": None},
    ],
)
def test_an_instance_that_tells_nothing_usable(overrides: dict[str, Any]) -> None:
    told = slice_of(ct_dataset(**overrides))
    assert told == Slice(None, None, None)
    assert coverage([told, told]) == NOT_JUDGED


def test_a_value_that_cannot_be_read_is_as_good_as_none() -> None:
    class Broken(Dataset):
        def get(self, key: Any, default: Any = None) -> Any:
            if key != "SOPClassUID":
                raise NotImplementedError("Unknown Value Representation")
            return super().get(key, default)

    assert slice_of(Broken()) == Slice(None, None, None)


@given(
    count=st.integers(5, 60),
    interval=st.floats(0.1, 20),
    first=st.floats(-2000, 2000),
    lost=st.sets(st.integers(1, 58), max_size=30),
    jitter=st.floats(0, 0.1),
    orientation=st.sampled_from([AXIAL, TILTED, CORONAL]),
    turned=st.booleans(),
)
def test_what_was_lost_between_numbered_slices_is_counted(
    count: int,
    interval: float,
    first: float,
    lost: set[int],
    jitter: float,
    orientation: tuple[float, ...],
    turned: bool,
) -> None:
    """As long as two slices with consecutive numbers are left, which tell the interval."""
    shake = np.random.default_rng(count).uniform(-0.5, 0.5, count) * jitter
    slices = at([first + interval * (index + shake[index]) for index in range(count)], orientation=orientation)
    inner = {index for index in lost if index < count - 1}
    left = [index for index in range(count) if index not in inner]
    if not any(after - before == 1 for before, after in pairwise(left)):
        return
    found = coverage(without(slices[::-1] if turned else slices, *inner))
    assert bool(found.missing) == bool(inner)
    if jitter == 0:
        assert found.missing == len(inner)


@given(data=st.data(), count=st.integers(4, 60), interval=st.floats(0.1, 20))
def test_one_lost_slice_is_found_without_numbers(data: st.DataObject, count: int, interval: float) -> None:
    slices = unnumbered(at([interval * each for each in range(count)]))
    assert coverage(slices) == COMPLETE
    assert coverage(without(slices, data.draw(st.integers(1, count - 2)))).missing == 1


any_number = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6))


@given(
    st.lists(
        st.builds(
            Slice,
            st.one_of(st.none(), st.tuples(*[st.floats(-1e6, 1e6)] * 6)),
            st.one_of(st.none(), st.tuples(*[st.floats(-1e6, 1e6)] * 3)),
            any_number,
        ),
        max_size=20,
    )
)
def test_nothing_raises(slices: list[Slice]) -> None:
    found = coverage(slices)
    assert found.missing is None or found.missing >= 0


def test_real_series(shared_ct: list[Path]) -> None:
    head = [slice_of(dcmread(path, stop_before_pixels=True)) for path in shared_ct if "head" in str(path)]
    assert len(head) == 28
    assert coverage(head) == coverage(unnumbered(head)) == COMPLETE
