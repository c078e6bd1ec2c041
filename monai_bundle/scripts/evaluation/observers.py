"""Model observers: how well a faint disc is detected, as d' (detectability index).

Sources
-------
H. H. Barrett, K. J. Myers, "Foundations of Image Science", Wiley 2004, 13.2: Hotelling and non-prewhitening observer.
B. D. Gallas, H. H. Barrett, "Validating the use of channels to estimate the ideal linear observer", J Opt Soc Am A 20
(2003) 1725-1738: Laguerre-Gauss channels for a round signal.
E. Samei et al., AAPM Report 233 (2019), section on task-based quality: d' from spectra.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

CHANNELS = 5
"""Laguerre-Gauss channels of a round signal."""
FINE = 9
"""Samples a pixel and axis, to tell how much of a pixel a disc covers."""


def disc(side: int, diameter: float) -> Array:
    """A disc of height 1 in the middle of a square, (side, side); each pixel holds the part that it covers."""
    place = (np.arange(side * FINE) + 0.5) / FINE - side / 2
    inside = np.hypot(place[:, None], place) <= diameter / 2
    return inside.reshape(side, FINE, side, FINE).mean(axis=(1, 3))


def laguerre_gauss(side: int, diameter: float, channels: int = CHANNELS) -> Array:
    """Channels for a disc of so many pixels, (side * side, channels), each of norm 1.

    The width of the Gaussian is that of the disc: exp(-pi r^2 / a^2) with a equal to the diameter.
    """
    place = np.arange(side) + 0.5 - side / 2
    argument = 2 * np.pi * (place[:, None] ** 2 + place**2) / diameter**2
    found = [np.exp(-argument / 2) * special.eval_laguerre(order, argument) for order in range(channels)]
    return np.stack([(each / np.linalg.norm(each)).ravel() for each in found], axis=1)


def channelised_hotelling(difference: Array, noise: npt.NDArray[np.floating], channels: Array) -> float:
    """d' of the Hotelling observer that sees the channels alone.

    Parameters
    ----------
    difference : ndarray
        (side, side), the mean of the images with the signal less the mean of those without, HU.
    noise : ndarray
        (n, side, side), images of one class or, less the means of their classes, of both, HU.
    channels : ndarray
        (side * side, channels).
    """
    signal = channels.T @ difference.ravel()
    seen = noise.reshape(len(noise), -1) @ channels
    inverse = np.linalg.pinv(np.cov(seen, rowvar=False), rcond=1e-8, hermitian=True)
    # The inverse of a covariance that was estimated from n samples is too large (Wishart).
    unbiased = (len(seen) - channels.shape[1] - 2) / (len(seen) - 1)
    return float(np.sqrt(max(signal @ inverse @ signal * unbiased, 0.0)))


def non_prewhitening(difference: Array, noise: npt.NDArray[np.floating]) -> float:
    """d' of the observer that compares with the expected difference itself; parameters as for the Hotelling one."""
    template = difference.ravel()
    seen = noise.reshape(len(noise), -1) @ template
    return float(template @ template / seen.std(ddof=1))


def prewhitening(difference: Array, noise: npt.NDArray[np.floating]) -> float:
    """d' of the observer that knows the noise power at every frequency of the square (stationary noise).

    It sees differences of any form, as channels for a round signal do not. Parameters as for the non-prewhitening one.
    """
    power = np.mean(abs(np.fft.fft2(noise - noise.mean(axis=0))) ** 2, axis=0) * len(noise) / (len(noise) - 1)
    signal = abs(np.fft.fft2(difference)) ** 2
    seen = power > 1e-6 * power.max()
    # The inverse of a power that was estimated from n samples is too large.
    return float(np.sqrt(np.sum(signal[seen] / power[seen]) * max(len(noise) - 2, 1) / (len(noise) - 1)))


def from_spectra(frequency: Array, transfer: Array, power: Array, diameter_mm: float, contrast_hu: float) -> float:
    """d' of a non-prewhitening observer without eye filter, from transfer function and noise power (Report 233).

    Parameters
    ----------
    frequency, transfer, power : ndarray
        (k,): 1/mm, evenly spaced; TTF; radial noise power, HU^2 mm^2.
    diameter_mm, contrast_hu : float
        The disc.
    """
    wave = np.maximum(frequency, 1e-6)
    task = contrast_hu * (diameter_mm / 2) * special.j1(np.pi * diameter_mm * wave) / wave
    seen = (task * transfer) ** 2 * wave * 2 * np.pi * (frequency[1] - frequency[0])
    return float(np.sum(seen) / np.sqrt(np.sum(seen * power)))
