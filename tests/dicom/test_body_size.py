"""The size of the body in a slice."""

import numpy as np
import pytest

from iscl_node.dicom.judging.body_size import effective_diameter_mm


def slice_with(radius: float, side: int = 200) -> np.ndarray:
    row, column = np.mgrid[:side, :side] - side / 2
    return np.where(np.hypot(row, column) < radius, 40, -1000).astype(np.float32)


def test_diameter_of_a_round_body() -> None:
    assert effective_diameter_mm(slice_with(60), 1.5**2) == pytest.approx(180, rel=0.02)


def test_lungs_belong_to_it_and_the_table_does_not() -> None:
    hu = slice_with(60)
    hu[90:110, 70:90] = -850
    hu[190:193, :] = 100
    assert effective_diameter_mm(hu, 1.0) == pytest.approx(120, rel=0.02)


def test_noise_changes_little() -> None:
    hu = slice_with(60) + np.random.default_rng(0).normal(0, 80, (200, 200)).astype(np.float32)
    assert effective_diameter_mm(hu, 1.0) == pytest.approx(120, rel=0.03)


@pytest.mark.parametrize("radius", [0, 300])
def test_no_body_and_a_cut_out_of_one(radius: float) -> None:
    assert effective_diameter_mm(slice_with(radius), 1.0) is None
