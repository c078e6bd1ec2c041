"""Neighbouring slices: independent noise is told from noise along z, and a mean that jumps is flicker."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from iscl_node.assessment.stack import Stack, draw_stack, find_stacks, stack_row
from iscl_node.dicom.reading.folder import read_folder


def stack() -> Stack:
    y, x = np.ogrid[:96, :96]
    body = np.where(np.hypot(y - 48, x - 48) < 40, 40.0, -1000.0)
    noise = np.random.default_rng(0).normal(0, 10, (12, 96, 96))
    return Stack("somebody", (body + noise).astype(np.float32), (2.0, 1.5))


def test_what_is_left_alone_is_the_same_before_and_after() -> None:
    row = stack_row(stack(), stack().hu)
    assert row["z correlation as is"] == row["z correlation left"] == pytest.approx(0, abs=0.02)
    # Independent from slice to slice: white, in runs of 8 slices at 1 to 4 times 1/16 mm.
    assert row["z mean frequency left"] == pytest.approx(0.156, abs=0.01)
    assert row["flicker"] == 0


def test_smoothing_along_z_is_seen_as_correlation_and_a_jumping_mean_as_flicker() -> None:
    given = stack()
    smooth = stack_row(given, ndimage.gaussian_filter1d(given.hu, 1.0, axis=0))
    assert float(smooth["z correlation left"]) > 0.5
    assert float(smooth["z mean frequency left"]) < 0.1
    jumps = np.float32([1, -1] * 6)[:, None, None]
    assert stack_row(given, given.hu - jumps)["flicker"] == pytest.approx(2 / np.sqrt(2), rel=0.01)


def test_stacks_are_runs_of_equal_distance(write_series: Callable[..., Path], tmp_path: Path) -> None:
    series = read_folder(write_series(9)).series.values()
    (found,) = find_stacks(list(series))
    assert found.hu.shape[0] == 9
    assert find_stacks([each[:5] for each in series]) == []
    draw_stack(tmp_path / "stack.png", found, {"same": found.hu})
    assert (tmp_path / "stack.png").stat().st_size > 1000
