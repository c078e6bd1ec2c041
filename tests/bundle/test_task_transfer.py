"""Sharpness of edges that were blurred by a known amount."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from monai_bundle.scripts.evaluation.task_transfer import ACROSS, edge_spread, find_edges, frequency_at, transfer

WINDOW = (-160.0, 240.0)
SIDE = 160


def half_plane(sigma: float, low: float = -90.0, high: float = 60.0, degrees: float = 20.0) -> np.ndarray:
    """A straight edge blurred by a Gaussian of ``sigma`` pixels, HU."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    angle = math.radians(degrees)
    across = x * math.cos(angle) + y * math.sin(angle)
    return low + (high - low) * (1 + erf(across / (sigma * math.sqrt(2)))) / 2


def disc(sigma: float, radius: float = 50.0) -> np.ndarray:
    """A disc of organ in fat, blurred likewise (the edge of a disc that is much larger than its blur)."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.3
    return -90 + 150 * (1 + erf((radius - np.hypot(x, y)) / (sigma * math.sqrt(2)))) / 2


def measured(image: np.ndarray, edges_of: np.ndarray, level: float = 0.5) -> float:
    return frequency_at(level, *transfer(edge_spread(image, find_edges(edges_of, WINDOW))))


def analytic(sigma: float, level: float = 0.5) -> float:
    """Where exp(-2 (pi sigma f)^2), the MTF of a Gaussian, is ``level``."""
    return math.sqrt(-math.log(level) / 2) / (math.pi * sigma)


@pytest.mark.parametrize("sigma", [0.9, 1.1, 1.4])
@pytest.mark.parametrize("shape", [half_plane, disc])
def test_gaussian_edge_has_its_analytic_frequencies(sigma: float, shape: Callable[[float], np.ndarray]) -> None:
    """Within 3 %: the disc's edge leaves the straight line by 4^2 / (2 * 50) = 0.16 pixels at the ends of a piece,
    which blurs by no more than that, and 0.9^2 + 0.16^2 = 0.914^2.
    """
    image = shape(sigma)
    for level in (0.5, 0.1):
        assert measured(image, image, level) == pytest.approx(analytic(sigma, level), rel=0.03)


def test_additional_blur_is_seen_at_the_edges_of_the_sharp_image() -> None:
    sharp = disc(1.0)
    blurred = ndimage.gaussian_filter(sharp, 1.0)
    ratio = measured(blurred, sharp) / measured(sharp, sharp)
    assert ratio == pytest.approx(1 / math.sqrt(2), rel=0.02)


def test_noise_of_the_normal_dose_does_not_look_sharp() -> None:
    """Edges are sought in the noisy image; a perfect denoiser, which takes this noise away, must not seem to blur.

    One image gives this ratio with a standard deviation of 0.045 (12 draws), the mean of 8 with 0.016; twice that.
    """
    perfect, ratios = disc(1.0), []
    for seed in range(8):
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, perfect.shape), 0.7)
        noisy = perfect + noise * 20 / noise.std()
        ratios.append(measured(perfect, noisy) / measured(noisy, noisy))
    assert np.mean(ratios) == pytest.approx(1, abs=0.032)


def test_edges_lie_on_the_edge_and_point_to_the_bright_side() -> None:
    edges = find_edges(disc(1.0), WINDOW)
    assert len(edges) > 20
    from_center = edges.centers - (SIDE / 2 - 0.3)
    np.testing.assert_allclose(np.hypot(*from_center.T), 50, atol=1)
    np.testing.assert_allclose((edges.normals * from_center).sum(axis=1) / 50, -1, atol=0.03)
    distances = np.hypot(*(edges.centers[:, None] - edges.centers).transpose(2, 0, 1)) + 99 * np.eye(len(edges))
    assert distances.min() >= 6
    spread = edge_spread(disc(1.0), edges)
    assert spread[0] == pytest.approx(-90, abs=1)
    assert spread[-1] == pytest.approx(60, abs=1)
    assert abs(np.interp(-15, spread, ACROSS)) < 0.5


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(half_plane(1.0, low=-1000), id="leaves the window"),
        pytest.param(half_plane(1.0, low=0), id="weak"),
        pytest.param(half_plane(4.0), id="a slope"),
        pytest.param(disc(1.0) + 0.7 * (disc(1.0, 50) - disc(1.0, 46)), id="organ with a wall"),
        pytest.param(disc(1.0, radius=5.0), id="bent"),
        pytest.param(np.zeros((12, 12)), id="nothing but border"),
    ],
)
def test_other_edges_are_not_taken(image: np.ndarray) -> None:
    assert len(find_edges(image, WINDOW)) == 0


def test_level_that_is_not_reached_is_nan() -> None:
    assert math.isnan(frequency_at(0.1, np.array([0.0, 0.5]), np.array([1.0, 0.4])))
    assert frequency_at(0.7, np.array([0.0, 0.5]), np.array([1.0, 0.4])) == pytest.approx(0.25)
