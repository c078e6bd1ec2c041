"""How much any denoiser could gain: a reference that holds noise of its own bounds what can be measured against it.

Where the reference's noise has the power spectrum R(f) and the noise that was added to it A(f), nobody can tell the one
from the other; of all linear estimates of the reference the best (Wiener's) leaves the integral of A R / (A + R) in
uniform tissue.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .noise_power import without_trend

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ceiling:
    """What the noise of a reference allows.

    Attributes
    ----------
    gain_db : float
        The largest gain in uniform tissue, dB.
    strength : float
        The share of all noise, the reference's included, that leaves about the least error.
    reference_hu, added_hu : float
        Standard deviations of both noises, HU.
    """

    gain_db: float
    strength: float
    reference_hu: float
    added_hu: float


def ceiling(reference: npt.NDArray[np.floating], added: npt.NDArray[np.floating]) -> Ceiling:
    """From pieces of uniform tissue of the reference, and pieces of the added noise alone.

    Parameters
    ----------
    reference, added : ndarray
        (n, side, side), HU; the numbers of pieces may differ.
    """
    r, a, weights = *(_rings(pieces) for pieces in (reference, added)), _ring_sizes(added.shape[-1])
    left = np.sum(weights * a * r / np.maximum(a + r, 1e-12))
    total_a, total_r = np.sum(weights * a), np.sum(weights * r)
    strength = float(total_a / (total_a + total_r))
    return Ceiling(float(10 * np.log10(total_a / left)), strength, float(np.sqrt(total_r)), float(np.sqrt(total_a)))


def _rings(pieces: npt.NDArray[np.floating]) -> Array:
    """Variance of the noise in each mode, HU^2, mean over rings of equal frequency, the lowest ring left out."""
    side = pieces.shape[-1]
    spectrum = np.mean(abs(np.fft.fft2(without_trend(pieces))) ** 2, axis=0) / side**4
    ring = _ring(side)
    return np.asarray(ndimage.mean(spectrum, ring, np.arange(1, ring.max() + 1)))


def _ring_sizes(side: int) -> Array:
    return np.bincount(_ring(side).ravel())[1:].astype(np.float64)


def _ring(side: int) -> npt.NDArray[np.int_]:
    frequency = np.fft.fftfreq(side)
    return np.rint(side * np.hypot(*np.meshgrid(frequency, frequency))).astype(int)
