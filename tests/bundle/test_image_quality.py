"""Measures of an image against its normal dose, where the answer is known."""

import math

import numpy as np
import pytest

from monai_bundle.scripts.evaluation.image_quality import bias_and_noise, psnr, rmse, ssim, uniform_tissue

WINDOW = (-160.0, 240.0)


def flat(hu: float = 40.0, side: int = 64) -> np.ndarray:
    return np.full((side, side), hu, np.float32)


def noise(sigma: float, side: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(0, sigma, (side, side)).astype(np.float32)


def test_psnr_of_a_constant_error_is_that_of_the_window() -> None:
    assert psnr(flat(44), flat(40), WINDOW) == pytest.approx(20 * math.log10(400 / 4))


def test_error_outside_the_window_does_not_count() -> None:
    assert psnr(flat(900), flat(300), WINDOW) == math.inf
    assert math.isnan(rmse(flat(900), flat(300), WINDOW))


def test_identical_images_are_infinitely_good() -> None:
    image = flat() + noise(20)
    region = uniform_tissue(image)
    assert psnr(image, image, WINDOW) == math.inf
    assert ssim(image, image, WINDOW) == pytest.approx(1)
    assert rmse(image, image, WINDOW) == 0
    assert bias_and_noise(image, image, region) == (0, 0)


def test_ssim_of_constant_images_is_its_luminance_term() -> None:
    """Wang et al. 2004: (2 a b + c) / (a^2 + b^2 + c), c = (0.01 * 255)^2, with a and b on [0, 255]."""
    a, b, c = (40 + 160) * 255 / 400, (140 + 160) * 255 / 400, 2.55**2
    assert ssim(flat(140), flat(40), WINDOW) == pytest.approx((2 * a * b + c) / (a * a + b * b + c))


def test_rmse_is_in_hu_where_the_normal_dose_is_in_the_window() -> None:
    normal, image = flat(40), flat(46)
    normal[:32], image[:32] = 500.0, 900.0
    assert rmse(image, normal, WINDOW) == pytest.approx(6)


def test_bias_and_noise_are_those_added() -> None:
    """The mean of n samples is uncertain by sigma / sqrt(n), their deviation by sigma / sqrt(2 n); 4 of each."""
    normal = flat(side=128) + noise(15, side=128)
    added = np.random.default_rng(2).normal(3, 25, normal.shape).astype(np.float32)
    region = uniform_tissue(normal)
    bias, level = bias_and_noise(normal + added, normal, region)
    assert bias == pytest.approx(3, abs=4 * 25 / math.sqrt(region.sum()))
    assert level == pytest.approx(25, abs=4 * 25 / math.sqrt(2 * region.sum()))


def test_region_is_soft_tissue_away_from_edges() -> None:
    normal = flat(-100, side=96)
    normal[:, 32:64], normal[:, 64:] = 50.0, 200.0
    region = uniform_tissue(normal + noise(15, side=96))
    columns = np.flatnonzero(region.any(axis=0))
    assert columns.size
    assert columns.min() >= 32 + 3
    assert columns.max() < 64 - 3


def test_region_too_small_is_not_measured() -> None:
    region = np.zeros((64, 64), bool)
    region[:10, :10] = True
    assert all(math.isnan(value) for value in bias_and_noise(flat(50), flat(40), region))
