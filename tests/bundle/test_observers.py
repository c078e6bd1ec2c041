"""The observers against values that are known without them, and the ceiling against its formula."""

import numpy as np
import pytest

from monai_bundle.scripts.evaluation.ceiling import ceiling
from monai_bundle.scripts.evaluation.observers import (
    channelised_hotelling,
    disc,
    from_spectra,
    laguerre_gauss,
    non_prewhitening,
    prewhitening,
)

SIDE = 32


def white(count: int, deviation: float, seed: int = 0) -> np.ndarray:
    return deviation * np.random.default_rng(seed).standard_normal((count, SIDE, SIDE))


def filtered(noise: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return np.fft.ifft2(np.fft.fft2(noise) * gain).real


@pytest.mark.parametrize("diameter", [4.3, 7.1, 14.0])
def test_a_disc_has_the_area_of_a_disc(diameter: float) -> None:
    assert disc(SIDE, diameter).sum() == pytest.approx(np.pi * diameter**2 / 4, rel=0.005)


def test_in_white_noise_both_observers_find_the_norm_of_the_signal() -> None:
    # d' = |s| / sigma for both, but for the part of the disc that 5 channels cannot see.
    signal = 3.0 * disc(SIDE, 10)
    noise, channels = white(4000, 20), laguerre_gauss(SIDE, 10)
    known = np.linalg.norm(signal) / 20
    seen = np.linalg.norm(np.linalg.qr(channels)[0].T @ signal.ravel()) / 20
    assert non_prewhitening(signal, noise) == pytest.approx(known, rel=0.03)
    assert channelised_hotelling(signal, noise, channels) == pytest.approx(seen, rel=0.03)
    assert 0.9 * known < seen <= known


def test_in_ramp_noise_hotelling_is_that_of_the_known_covariance_and_above_non_prewhitening() -> None:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    gain = np.sqrt(frequency + 0.02)
    signal, channels = 3.0 * disc(SIDE, 10), laguerre_gauss(SIDE, 10)
    noise = filtered(white(6000, 20), gain)
    through = np.stack([filtered(each.reshape(SIDE, SIDE), gain).ravel() for each in channels.T], axis=1)
    seen = channels.T @ signal.ravel()
    known = np.sqrt(seen @ np.linalg.inv(20**2 * through.T @ through) @ seen)
    assert channelised_hotelling(signal, noise, channels) == pytest.approx(known, rel=0.04)
    # Non-prewhitening: s.s / sqrt(s K s).
    expected = np.sum(signal**2) / (20 * np.linalg.norm(filtered(signal, gain)))
    assert non_prewhitening(signal, noise) == pytest.approx(expected, rel=0.04)
    assert non_prewhitening(signal, noise) < channelised_hotelling(signal, noise, channels)


def test_the_prewhitening_observer_finds_what_is_known_of_coloured_noise_and_of_few_samples() -> None:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    gain = np.sqrt(frequency + 0.02)
    signal = 3.0 * disc(SIDE, 10)
    known = np.sqrt(np.sum(abs(np.fft.fft2(signal)) ** 2 / (SIDE**2 * (20 * gain) ** 2)))
    assert prewhitening(signal, filtered(white(4000, 20), gain)) == pytest.approx(known, rel=0.03)
    few = [prewhitening(signal, filtered(white(40, 20, seed), gain)) for seed in range(40)]
    assert np.mean(few) == pytest.approx(known, rel=0.05)


def test_no_bias_with_few_samples() -> None:
    signal, channels = 3.0 * disc(SIDE, 10), laguerre_gauss(SIDE, 10)
    few = [channelised_hotelling(signal, white(20, 20, seed), channels) ** 2 for seed in range(300)]
    many = channelised_hotelling(signal, white(6000, 20), channels) ** 2
    assert np.mean(few) == pytest.approx(many, rel=0.06)


def test_detectability_from_spectra_is_that_of_the_observer_in_the_image() -> None:
    # White noise of 20 HU in pixels of 0.5 mm: power 20^2 * 0.5^2; the transfer is 1.
    spacing, diameter = 0.5, 5.0
    frequency = np.linspace(0, 20, 40_001)
    found = from_spectra(frequency, np.ones_like(frequency), np.full_like(frequency, 100.0), diameter, 7.0)
    assert found == pytest.approx(7 * np.sqrt(np.pi * diameter**2 / 4) / spacing / 20, rel=0.01)


def test_ceiling_of_equal_spectra_is_that_of_their_variances() -> None:
    # White on white: left is A R / (A + R), so the ceiling is (A + R) / R.
    found = ceiling(white(300, 10), white(300, 20, seed=1))
    assert found.gain_db == pytest.approx(10 * np.log10((20**2 + 10**2) / 10**2), abs=0.1)
    assert found.strength == pytest.approx(20**2 / (20**2 + 10**2), abs=0.01)
    assert found.reference_hu == pytest.approx(10, rel=0.05)


def test_the_wiener_filter_reaches_the_ceiling_and_nothing_passes_it() -> None:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    gains = np.sqrt(frequency + 0.05), frequency * np.exp(-((frequency / 0.25) ** 2)) + 0.02
    reference, added = (filtered(white(400, 20, seed), gain) for seed, gain in enumerate(gains))
    r, a = (gain**2 for gain in gains)
    best = filtered(reference + added, r / (a + r)) - reference
    reached = 10 * np.log10(np.mean(added**2) / np.mean(best**2))
    assert ceiling(reference, added).gain_db == pytest.approx(reached, abs=0.25)
