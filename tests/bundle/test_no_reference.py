"""The estimate of an image's error without a clean image, on an image whose error is known."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import spearmanr

from monai_bundle.scripts.evaluation.no_reference import EstimatedPSNR, estimated_error

NOISE = 0.08


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """An organ with vessels of many sizes in a body, (160, 160), the window being [0, 1]."""
    rows, columns = np.mgrid[:160, :160]
    image = np.where(np.hypot(rows - 80, columns - 80) < 74, 0.4, 0.0)
    random = np.random.default_rng(1)
    for radius in random.uniform(1.5, 9, 40):
        row, column = random.uniform(30, 130, 2)
        if column > 70:  # the left of the body is uniform
            image[np.hypot(rows - row, columns - column) < radius] = random.uniform(0.25, 0.7)
    return ndimage.gaussian_filter(image, 0.7)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Noise whose neighbors are correlated, as in a CT image, without low frequencies."""
    white = np.random.default_rng(2).normal(size=(160, 160))
    band = ndimage.gaussian_filter(white, 0.6) - ndimage.gaussian_filter(white, 4)
    return NOISE * band / band.std()


def rmse(image: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
    """Over the same part of the image as the estimate."""
    smooth = ndimage.gaussian_filter(noisy, 3)
    return math.sqrt(np.square(image - clean)[(smooth > 0.1) & (smooth < 0.9)].mean())


def test_error_of_the_noisy_image_is_its_noise(clean: np.ndarray, noise: np.ndarray) -> None:
    """Within 5 %: the local mean that is taken off holds a little of the noise."""
    assert estimated_error(clean + noise, clean + noise) == pytest.approx(NOISE, rel=0.05)


@pytest.mark.parametrize("kept", [0.0, 0.25, 0.5, 0.75])
def test_error_of_what_keeps_a_part_of_the_noise(clean: np.ndarray, noise: np.ndarray, kept: float) -> None:
    """Noise of two regions of 5000 pixels differs by some percent of its variance: 0.02 in all."""
    assert estimated_error(clean + noise, clean + kept * noise) == pytest.approx(kept * NOISE, abs=0.02)


@pytest.mark.parametrize("sigma", [1.5, 2.5, 4.0])
def test_lost_structure_is_an_error(clean: np.ndarray, noise: np.ndarray, sigma: float) -> None:
    """Structure is lost without any noise being left: the denoised image is the smoothed clean one."""
    noisy, smoothed = clean + noise, ndimage.gaussian_filter(clean, sigma)
    truth = rmse(smoothed, clean, noisy)
    assert estimated_error(noisy, smoothed) == pytest.approx(truth, rel=0.5)  # it sees more of it where it looks
    assert estimated_error(noisy, smoothed) > estimated_error(noisy, clean) + truth / 2


def test_candidates_are_ranked_as_by_their_true_error(clean: np.ndarray, noise: np.ndarray) -> None:
    noisy = clean + noise
    filtered = [ndimage.gaussian_filter(noisy, sigma) for sigma in (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)]
    partial = [clean + kept * noise for kept in (0.2, 0.4, 0.6, 0.8)]
    candidates = [noisy, *filtered, *partial, ndimage.median_filter(noisy, 3), ndimage.median_filter(noisy, 7)]
    estimates = [estimated_error(noisy, image) for image in candidates]
    truths = [rmse(image, clean, noisy) for image in candidates]
    assert spearmanr(estimates, truths)[0] > 0.9
    assert np.argmin(estimates) == np.argmin(truths)


def test_no_trivial_result_is_good(clean: np.ndarray, noise: np.ndarray) -> None:
    noisy = clean + noise
    good = estimated_error(noisy, clean + 0.3 * noise)
    assert estimated_error(noisy, noisy) > 2 * good
    assert estimated_error(noisy, np.full_like(noisy, noisy.mean())) > 2 * good


def test_metric_is_a_psnr_of_each_image(clean: np.ndarray, noise: np.ndarray) -> None:
    noisy = np.stack([clean + noise, clean + noise / 2])[:, None]
    metric = EstimatedPSNR(reduction="none")
    values = metric(torch.as_tensor(noisy), torch.as_tensor(noisy))
    expected = [-20 * math.log10(estimated_error(image[0], image[0])) for image in noisy]
    assert values.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_slice_without_uniform_regions_is_left_out(clean: np.ndarray, noise: np.ndarray) -> None:
    empty = np.zeros_like(clean)
    assert math.isnan(estimated_error(empty, empty))
    metric = EstimatedPSNR()
    batch = torch.as_tensor(np.stack([clean + noise, empty])[:, None])
    metric(batch, batch)
    assert metric.aggregate().item() == pytest.approx(-20 * math.log10(estimated_error(clean + noise, clean + noise)))
