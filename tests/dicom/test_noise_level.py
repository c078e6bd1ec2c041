"""The noise of an image, told from the image alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from iscl_node.dicom.judging.noise_level import noise_level_hu


def phantom(side: int = 192) -> np.ndarray:
    """Organs of soft tissue with edges, vessels and bone, in fat, in air; HU."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    hu = np.full((side, side), -1000.0)
    hu[x**2 + y**2 < 0.45**2] = -100
    hu[(x / 0.42) ** 2 + (y / 0.4) ** 2 < 1] = 40
    hu[(x + 0.15) ** 2 + y**2 < 0.1**2] = 80
    hu[np.hypot(x - 0.15, y + 0.1) < 0.04] = 600
    hu[::16, side // 2 :: 16][hu[::16, side // 2 :: 16] == 40] = 120
    return hu


def noise(deviation_hu: float, seed: int, side: int = 192) -> np.ndarray:
    """Noise with a spectrum like that of filtered back-projection: little at the lowest and the highest frequencies."""
    white = np.random.default_rng(seed).normal(size=(side, side))
    grain = ndimage.gaussian_filter(white, 0.7)
    grain -= ndimage.gaussian_filter(grain, 4)
    return grain * (deviation_hu / grain.std())


@settings(max_examples=15, deadline=None)
@given(st.floats(3, 120), st.integers(0, 1000))
def test_finds_the_noise_in_spite_of_edges(deviation_hu: float, seed: int) -> None:
    estimated = noise_level_hu((phantom() + noise(deviation_hu, seed)).astype(np.float32))
    assert estimated == pytest.approx(deviation_hu, rel=0.1)


def test_an_image_without_noise_has_none() -> None:
    assert noise_level_hu(phantom().astype(np.float32)) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("hu", [-1000, -100, 1000])
def test_without_soft_tissue_there_is_no_estimate(hu: float) -> None:
    assert noise_level_hu(np.full((64, 64), hu, np.float32)) is None


def test_more_noise_than_contrast_hides_no_tissue() -> None:
    """Noise of 200 HU leaves a fifth of the pixels in the range of soft tissue; the smoothed image shows it all."""
    assert noise_level_hu((phantom() + noise(200, 1)).astype(np.float32)) == pytest.approx(200, rel=0.1)


def test_structure_in_most_of_the_tissue_is_not_noise() -> None:
    """Contrasted vessels in three fifths of it; before only uniform tissue counted, theirs was the frequent value."""
    rows, columns = np.mgrid[:192, :192]
    vessels = 25 * np.sin(rows / 3.0) * np.sin(columns / 3.0) * (columns < 0.6 * 192)
    estimated = noise_level_hu((50 + vessels + noise(8, 3)).astype(np.float32))
    assert estimated == pytest.approx(8, rel=0.1)
