"""Noise power spectrum (NPS) in uniform squares of an image, after ICRU Report 87, section 11, and AAPM TG-233."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial
from scipy import ndimage

from .image_quality import Image, uniform_tissue

Array = npt.NDArray[np.float64]

SIDE = 24
"""Pixels; larger squares find no place in an organ."""
UNIFORM_PART = 0.8
ORGANS_HU = (0.0, 150.0)
"""Soft tissue with and without contrast medium."""
FEWEST_SQUARES = 4


@dataclass(frozen=True)
class NoisePower:
    """A radially averaged noise power spectrum.

    Attributes
    ----------
    frequencies : ndarray
        (k,), in 1/mm, or 1/pixel where the size of the pixels is unknown; from the lowest above 0 up to 0.5/pixel.
    power : ndarray
        (k,), HU^2 mm^2 (or HU^2 pixel^2).
    variance : float
        Of the noise in the squares, HU^2.
    """

    frequencies: Array
    power: Array
    variance: float

    @classmethod
    def mean_of(cls, spectra: Sequence["NoisePower"]) -> "NoisePower":
        """The mean of spectra on the same frequencies."""
        power, variance = (np.mean([getattr(each, name) for each in spectra], axis=0) for name in ("power", "variance"))
        return cls(spectra[0].frequencies, power, float(variance))

    @property
    def peak_frequency(self) -> float:
        """Frequency of the largest power, by a parabola through the three samples around it."""
        top = int(self.power.argmax())
        if top in (0, len(self.power) - 1):
            return float(self.frequencies[top])
        left, middle, right = self.power[top - 1 : top + 2]
        shift = 0.5 * (left - right) / (left - 2 * middle + right)
        return float(self.frequencies[top] + shift * (self.frequencies[1] - self.frequencies[0]))

    @property
    def mean_frequency(self) -> float:
        """Mean frequency, weighted by the power."""
        return float(np.average(self.frequencies, weights=self.power))


def find_squares(normal: Image, side: int = SIDE) -> list[tuple[slice, slice]]:
    """Squares of 24 pixels, at least 80 % of which are uniform tissue of 0 to 150 HU; neighbors share a half.

    Parameters
    ----------
    normal : ndarray
        (H, W), HU, the normal dose; see :func:`scripts.image_quality.uniform_tissue`.
    side : int
        Pixels.
    """
    half = side // 2
    part = ndimage.uniform_filter(uniform_tissue(normal, ORGANS_HU).astype(np.float64), side, mode="constant")
    grid = part[half : normal.shape[0] - half + 1 : half, half : normal.shape[1] - half + 1 : half]
    corners = np.argwhere(grid >= UNIFORM_PART - 1e-9) * half
    return [(slice(row, row + side), slice(column, column + side)) for row, column in corners]


def noise_power(squares: npt.NDArray[np.floating], spacing: float = 1.0) -> NoisePower:
    """The NPS of square pieces of image, less a polynomial of second order, averaged over pieces and directions.

    Parameters
    ----------
    squares : ndarray
        (n, side, side), HU.
    spacing : float
        Distance of pixels, mm.
    """
    side = squares.shape[-1]
    noise = without_trend(squares)
    spectrum_2d = np.mean(abs(np.fft.fft2(noise)) ** 2, axis=0) * (spacing / side) ** 2
    ring = np.rint(side * np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))).astype(int)
    power = ndimage.mean(spectrum_2d, ring, np.arange(1, side // 2 + 1))
    return NoisePower(np.arange(1, side // 2 + 1) / (side * spacing), power, float(np.mean(noise**2)))


def without_trend(squares: npt.NDArray[np.floating]) -> Array:
    """Subtract from each square the polynomial of second order that fits it best, (n, side, side)."""
    place = np.linspace(-1, 1, squares.shape[-1])
    terms = polynomial.polyvander2d(*np.meshgrid(place, place), [2, 2])[..., [0, 1, 2, 3, 4, 6]].reshape(-1, 6)
    flat = squares.reshape(len(squares), -1).T.astype(np.float64)
    return (flat - terms @ np.linalg.lstsq(terms, flat, rcond=None)[0]).T.reshape(squares.shape)
