"""A head made of numbers, for the demonstration's tests."""

import numpy as np
import pytest

from iscl_node.demo.head_ct import HeadCt


@pytest.fixture
def head() -> HeadCt:
    """Six slices of 64 x 64: brain in a ring of skull in air, with a little noise."""
    y, x = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(y, x)
    slice_hu = np.where(radius < 24, 35, np.where(radius < 28, 900, -1000))
    noise = np.random.default_rng(0).normal(0, 4, (6, 64, 64))
    volume = np.rint(slice_hu + noise).astype(np.int16)
    return HeadCt(volume, (1.5, 0.957, 0.957), "a head made of numbers")
