"""The noise power spectrum, where it is known."""

import numpy as np
import pytest

from monai_bundle.scripts.evaluation.noise_power import SIDE, NoisePower, find_squares, noise_power, without_trend

MM = 0.8
SIGMA = 20.0


def white(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, SIGMA, (count, side, side))


def test_white_noise_has_the_same_power_at_every_frequency() -> None:
    """NPS = variance times area of a pixel. A ring of radius k holds about 2 pi k samples, half of them independent,
    each with a relative deviation of 1; the polynomial takes power of the first two rings.
    """
    count = 400
    nps = noise_power(white(count), MM)
    np.testing.assert_allclose(nps.frequencies, np.arange(1, 13) / (24 * MM))
    rings = np.arange(3, 13)
    relative = nps.power[2:] / (SIGMA**2 * MM**2)
    assert (abs(relative - 1) < 4 / np.sqrt(count * np.pi * rings)).all()
    assert nps.variance == pytest.approx(SIGMA**2 * (1 - 6 / SIDE**2), rel=4 * np.sqrt(2 / (count * SIDE**2)))


def test_filtered_noise_has_the_power_of_its_filter() -> None:
    """Noise of filtered back-projection with a soft kernel: f exp(-(f / b)^2) has its peak at b / sqrt(2)."""
    side, width = 96, 0.2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    spectrum = np.fft.fft2(white(100, side)) * frequency * np.exp(-((frequency / width) ** 2))
    inner = np.fft.ifft2(spectrum).real[:, :72, :72]
    squares = inner.reshape(100, 3, SIDE, 3, SIDE).transpose(0, 1, 3, 2, 4).reshape(-1, SIDE, SIDE)
    nps = noise_power(squares, MM)

    f = nps.frequencies * MM
    expected = SIGMA**2 * MM**2 * (f * np.exp(-((f / width) ** 2))) ** 2
    strong = expected > 0.5 * expected.max()
    # A square of 24 pixels blurs the spectrum over 1/24 per pixel, a quarter of the width of this peak.
    np.testing.assert_allclose(nps.power[strong], expected[strong], rtol=0.15)
    assert nps.peak_frequency == pytest.approx(width / np.sqrt(2) / MM, abs=0.5 / (SIDE * MM))
    assert nps.mean_frequency == pytest.approx(np.average(nps.frequencies, weights=expected), rel=0.03)


def test_smooth_background_is_no_noise() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    background = 40 + 2 * x - y + 0.1 * x * y + 0.05 * x**2
    np.testing.assert_allclose(without_trend(background[None]), 0, atol=1e-9)


def test_peak_lies_between_the_samples() -> None:
    frequencies = np.arange(1, 6) / 10
    power = 5 - 100 * (frequencies - 0.27) ** 2
    assert NoisePower(frequencies, power, 1.0).peak_frequency == pytest.approx(0.27)
    assert NoisePower(frequencies, frequencies, 1.0).peak_frequency == 0.5


def test_squares_lie_in_uniform_tissue() -> None:
    image = np.full((128, 128), -100.0)
    image[:, 60:] = 60.0
    squares = find_squares(image + np.random.default_rng(0).normal(0, 15, image.shape))
    assert squares
    assert all(image[square].shape == (SIDE, SIDE) for square in squares)
    assert all((image[square] == 60).mean() >= 0.8 for square in squares)
