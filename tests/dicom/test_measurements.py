"""What is measured of a derived series, on images whose noise, shift and blur are known."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from iscl_node.dicom.evidence.measurements import (
    ImageMeasurements,
    SeriesMeasurements,
    measured_series,
    measured_slice,
)

SIDE = 256
Image = npt.NDArray[np.float32]


def organs() -> Image:
    """Ellipses of 0 to 100 HU in fat of -100 HU, with edges as soft as a scanner makes them; no noise."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE), -100.0)
    for _ in range(12):
        row, column = rng.uniform(30, SIDE - 30, 2)
        height, width = rng.uniform(12, 40, 2)
        inside = ((y - row) / height) ** 2 + ((x - column) / width) ** 2 < 1
        image[inside] = rng.uniform(0, 100)
    return ndimage.gaussian_filter(image, 1.0).astype(np.float32)


def uniform(mean_hu: float = 50.0) -> Image:
    return np.full((SIDE, SIDE), mean_hu, np.float32)


def white_noise(sigma_hu: float, seed: int = 0) -> Image:
    return np.random.default_rng(seed).normal(0, sigma_hu, (SIDE, SIDE)).astype(np.float32)


def ct_noise(sigma_hu: float, seed: int = 0) -> Image:
    """Noise with the correlation of neighbours that a soft kernel gives."""
    noise = ndimage.gaussian_filter(white_noise(1.0, seed), 0.8, mode="wrap")
    return np.float32(sigma_hu) * (noise / noise.std())


@pytest.mark.parametrize("sigma_hu", [5.0, 20.0, 50.0])
def test_noise_before_and_after(sigma_hu: float) -> None:
    """Of white noise in squares of 81 pixels the most frequent deviation is 0.6 % below sigma; bins are of 2 %."""
    noise = white_noise(sigma_hu)
    measured = measured_series([measured_slice(uniform() + noise, uniform() + noise / 4)], images=1)
    assert measured.source.noise_hu == pytest.approx(sigma_hu, rel=0.03)
    assert measured.derived.noise_hu == pytest.approx(sigma_hu / 4, rel=0.03)
    assert measured.noise_reduction == pytest.approx(0.75, abs=0.02)


def test_correlated_noise_is_told_a_little_too_low() -> None:
    """A square's own mean takes its share of correlated noise along.

    The variance of the mean of 9 x 9 pixels is 4 pi 0.8^2 / 81 = 10 % of the noise's, so 5 % of sigma are lost, and
        3 % more because the half of the tissue with the least slope has the least of it.
    """
    measured = measured_slice(uniform() + ct_noise(20.0), uniform() + ct_noise(5.0))
    assert measured.source_noise_hu == pytest.approx(0.92 * 20, rel=0.03)


def test_noise_does_not_depend_on_anatomy() -> None:
    """Squares with an edge are the fewer ones, and each has another deviation."""
    plain = measured_slice(uniform() + white_noise(20.0), uniform()).source_noise_hu
    assert measured_slice(organs() + white_noise(20.0), organs()).source_noise_hu == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("shift_hu", [0.0, 3.0, -1.5])
def test_shift_of_the_mean(shift_hu: float) -> None:
    """Its standard error is the noise over the root of the number of pixels, here 20 / 256 = 0.08 HU; four of these."""
    measured = measured_series([measured_slice(uniform() + white_noise(20.0), uniform(50 + shift_hu))], images=1)
    assert measured.mean_shift_hu == pytest.approx(shift_hu, abs=4 * 20 / SIDE)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_noise_that_is_removed_has_no_structure(strength: float, seed: int) -> None:
    """Over twelve seeds it has a standard deviation of 0.024 in these organs; four of these."""
    noise = ct_noise(10.0, seed)
    measured = measured_slice(organs() + noise, organs() + np.float32(1 - strength) * noise)
    assert measured.structure == pytest.approx(0, abs=4 * 0.024)


def test_blur_is_structure_the_more_the_wider() -> None:
    blurred = [ndimage.gaussian_filter(organs(), width) for width in (0.5, 1.0, 2.0)]
    shares = [measured_slice(organs() + ct_noise(10.0), each).structure or 0.0 for each in blurred]
    assert 4 * 0.024 < shares[0] < shares[1] < shares[2]


def test_of_air_nothing_is_measured() -> None:
    air = uniform(-1000.0)
    measured = measured_series([measured_slice(air + white_noise(20.0), air)], images=1)
    assert measured == SeriesMeasurements(1, 0, ImageMeasurements(None, None), ImageMeasurements(None, None), None)
    assert measured.mean_shift_hu is None
    assert measured.noise_reduction is None


def test_nothing_removed_is_no_change() -> None:
    image = organs() + white_noise(20.0)
    measured = measured_series([measured_slice(image, image)], images=1)
    assert (measured.mean_shift_hu, measured.noise_reduction, measured.structure) == (0, 0, None)


def test_slices_are_brought_together_by_their_medians_and_pixels() -> None:
    one = replace(
        measured_slice(uniform() + white_noise(20.0), uniform()),
        source_noise_hu=10.0,
        derived_noise_hu=4.0,
        tissue_pixels=100,
        source_sum_hu=4000.0,
        derived_sum_hu=4100.0,
        structure=0.1,
    )
    two = replace(one, source_noise_hu=30.0, tissue_pixels=300, source_sum_hu=3000.0, derived_sum_hu=2900.0)
    three = replace(one, source_noise_hu=20.0, structure=0.3)
    empty = replace(one, derived_noise_hu=None, tissue_pixels=0, source_sum_hu=0.0, derived_sum_hu=0.0, structure=None)
    measured = measured_series([one, two, three, empty], images=9)
    assert (measured.images, measured.measured) == (9, 3)
    assert measured.source == ImageMeasurements(20.0, 11000 / 500)
    assert measured.derived == ImageMeasurements(4.0, 11100 / 500)
    assert (measured.structure, measured.noise_reduction) == (0.1, 0.8)
