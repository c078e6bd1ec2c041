"""What the node asks of a denoiser, and how much of the noise that it finds is taken away.

Whether a pixel is in the denoiser's window is decided by its neighbourhood, not by its own noisy value: or noise that
leaves the window stays as specks, black ones in fat and white ones in contrasted kidneys. So that no calcification,
clip or air bubble is pulled into the window for that, what is removed is bounded by the noise level around it.
"""

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_node.domain import ModelIdentity

Slice = npt.NDArray[np.float32]
"""One CT image, (H, W) float32, HU."""

WindowHU = tuple[float, float]
"""Lower and upper end of a denoiser's window, HU."""

CT_RANGE_HU: Final = (-1024.0, 3071.0)
"""HU of 12 bits. What is beyond is padding, or metal on an extended scale, and stays as it is, bit for bit."""
FADE_HU: Final = 40.0
"""Over so many HU beyond the window, in the neighbourhood's value, the change fades to zero; a window that ends with
CT's range has nothing beyond. Also how far from the window's end the denoiser's answer must be to be trusted about a
pixel beyond it, half of it at least: closer, it may say the end for want of a higher value."""
NEIGHBOURHOOD_PIXELS: Final = 1.5
"""Standard deviation of the Gaussian that gives the neighbourhood's value."""
OUTLIER_HU: Final = 4 * FADE_HU
"""No pixel counts in its neighbourhood as further beyond the window than this: air beside skin, bone beside muscle."""
NOISE_LEVELS: Final = 4.0
"""Most that is removed, in noise levels: true noise is beyond in one pixel of 16,000. From twice this on it is an
object, and nothing is removed."""
LEVEL_PIXELS: Final = 31
"""Side of the square in which the level of the noise that the denoiser finds is measured."""

_OUTLIER_LEVELS: Final = 6.0
_DEVIATION_PER_MEAN: Final = float(np.sqrt(np.pi / 2))
"""Of the normal distribution: standard deviation to mean absolute deviation."""
_DEVIATION_PER_MEDIAN: Final = 1.4826
_AIR_HU: Final = -950.0
_LEAST_LEVEL_HU: Final = np.float32(1e-3)


class Denoiser(Protocol):
    """Turns one slice into one slice; may be called from several threads."""

    @property
    def model(self) -> ModelIdentity:
        """Which model this is, for every derived object."""

    @property
    def window_hu(self) -> WindowHU:
        """The HU that it was made for."""

    def denoise(self, hu: Slice) -> Slice:
        """Denoise one slice, (H, W) float32 HU to the same."""


def removable_noise(denoiser: Denoiser, source_hu: Slice) -> Slice:
    """Return the noise that may be removed of a slice, (H, W) float32 HU; 0 where the slice is to stay as it is.

    The denoiser is shown the slice with what leaves its window set to the window's end, in all places whose
    neighbourhood is not beyond the window.
    """
    low, high = max(denoiser.window_hu[0], CT_RANGE_HU[0]), min(denoiser.window_hu[1], CT_RANGE_HU[1])
    smooth = _neighbourhood(source_hu, (low, high))
    share = fade(smooth, (low, high))
    share[(source_hu < CT_RANGE_HU[0]) | (source_hu > CT_RANGE_HU[1])] = 0
    shown = np.where(share > 0, source_hu.clip(low, high), source_hu).astype(np.float32)
    answer = denoiser.denoise(shown)
    removed = source_hu - answer
    changing = share > 0
    tissue = changing & (smooth > _AIR_HU)  # scanners cut off the noise of air
    bound = bounded_share(removed, noise_level_map(removed, tissue if tissue.any() else changing))
    # Near the window's end the answer says nothing of what a pixel has beyond it.
    trusted = (np.minimum(answer - low, high - answer) / np.float32(FADE_HU) - np.float32(0.5)).clip(0, 1)
    noise = shown - answer + trusted * (source_hu - shown)
    return np.where(share > 0, share * bound * noise, 0).astype(np.float32)


def fade(hu: Slice, window_hu: WindowHU) -> Slice:
    """Return the share of the noise that may go, (H, W) float32: 1 in the window, 0 from the fade's end on.

    It falls in a straight line between.
    """
    low, high = window_hu
    beyond_hu = np.maximum(np.maximum(low - hu, hu - high), 0)
    share: Slice = np.maximum(1 - beyond_hu / np.float32(FADE_HU), 0).astype(np.float32)
    return share


def bounded_share(noise_hu: Slice, level_hu: Slice) -> Slice:
    """Return which part of each pixel's noise can be noise, (H, W) float32, by the noise level around it.

    1 up to ``NOISE_LEVELS``, then falling, 0 from twice that on: what is removed is never more than ``NOISE_LEVELS``
    levels, and two pixels never change their order.
    """
    levels = np.abs(noise_hu) / np.maximum(level_hu, _LEAST_LEVEL_HU)
    share: Slice = (2 - levels / np.float32(NOISE_LEVELS)).clip(0, 1)
    return share


def noise_level_map(noise_hu: Slice, where: npt.NDArray[np.bool_]) -> Slice:
    """Return the standard deviation of a noise around each pixel, (H, W) float32 HU.

    Measured by absolute values, of which none counts more than six of the slice's own deviations: an object that was
    taken for noise must not raise the bound that is to keep it.

    Parameters
    ----------
    noise_hu : float32 array, shape (H, W)
        HU.
    where : bool array, shape (H, W)
        The pixels that count; a place without any around it gets the slice's level.
    """
    if not where.any():
        return np.zeros_like(noise_hu)
    deviations = np.abs(noise_hu)
    whole = np.float32(_DEVIATION_PER_MEDIAN * np.median(deviations[where]))
    counted = where.astype(np.float32)
    weight = ndimage.uniform_filter(counted, LEVEL_PIXELS)
    mean = ndimage.uniform_filter(deviations.clip(0, _OUTLIER_LEVELS * whole) * counted, LEVEL_PIXELS)
    level: Slice = np.where(weight > 1e-3, _DEVIATION_PER_MEAN * mean / np.maximum(weight, 1e-3), whole)
    return level.astype(np.float32)


def blend(source_hu: Slice, noise_hu: Slice, strength: float) -> Slice:
    """Return the source minus ``strength`` times the noise, (H, W) float32 HU.

    Where there is no noise, and with strength 0, the result is the source bit for bit.
    """
    share = np.float32(strength) * noise_hu if strength else np.zeros_like(noise_hu)
    return np.where(share == 0, source_hu, source_hu - share)


def _neighbourhood(source_hu: Slice, window_hu: WindowHU) -> Slice:
    low, high = max(window_hu[0] - OUTLIER_HU, CT_RANGE_HU[0]), min(window_hu[1] + OUTLIER_HU, CT_RANGE_HU[1])
    smooth: Slice = ndimage.gaussian_filter(source_hu.clip(low, high), NEIGHBOURHOOD_PIXELS)
    return smooth
