"""A series: each slice's noise depends on the seed and its key, and on nothing else."""

import numpy as np
import pytest

from iscl_node.simulation.low_dose import Scanner
from iscl_node.simulation.series import Slice, low_dose_series

SMALL = Scanner(views=30)


def slices(count: int = 4) -> list[Slice]:
    return [Slice(f"1.2.{number}", np.zeros((32, 32), np.float32), 2.0) for number in range(count)]


def test_result_does_not_depend_on_order() -> None:
    forward = list(low_dose_series(slices(), 0.25, 0, SMALL))
    backward = list(low_dose_series(reversed(slices()), 0.25, 0, SMALL))
    np.testing.assert_array_equal(forward, backward[::-1])


def test_slices_have_independent_noise() -> None:
    first, second, *_ = low_dose_series(slices(), 0.25, 0, SMALL)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_seed_decides() -> None:
    assert not np.array_equal(*(next(low_dose_series(slices(), 0.25, seed, SMALL)) for seed in (0, 1)))


def test_result_does_not_depend_on_the_number_of_workers() -> None:
    many = slices(5)
    alone = list(low_dose_series(many, 0.25, 3, SMALL))
    np.testing.assert_array_equal(alone, list(low_dose_series(many, 0.25, 3, SMALL, workers=2)))


def test_full_dose_returns_the_source() -> None:
    source = Slice("1.2.3", np.arange(64, dtype=np.float32).reshape(8, 8), 1.0)
    np.testing.assert_array_equal(next(low_dose_series([source], 1.0, 0)), source.hu)


@pytest.mark.parametrize(("dose", "seed", "workers"), [(0.0, 0, 1), (1.5, 0, 1), (0.5, -1, 1), (0.5, 0, 0)])
def test_wrong_arguments_are_refused_at_once(dose: float, seed: int, workers: int) -> None:
    with pytest.raises(ValueError, match="got"):
        low_dose_series(slices(), dose, seed, SMALL, workers)
