"""How near an image is to its normal-dose image: the paper's PSNR and SSIM, and errors in HU.

All images are (H, W), HU; a window is its lower and upper HU, as in :data:`scripts.window.PROFILES`.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

Image = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

GREY_RANGE = 255.0
SOFT_TISSUE_HU = (0.0, 80.0)
SMOOTHING_PIXELS = 3.0
STEEPEST_HU_PER_PIXEL = 4.0
EROSION_PIXELS = 3
FEWEST_PIXELS = 200
"""A region of fewer pixels is not measured: with noise of 30 HU its mean alone would be uncertain by 2 HU."""


def windowed(image: Image, window: Sequence[float]) -> Image:
    """Clip to the window and scale to [0, 255], float64, not rounded: what the paper measures on."""
    low, high = window
    return (np.clip(image.astype(np.float64), low, high) - low) * (GREY_RANGE / (high - low))


def psnr(image: Image, normal: Image, window: Sequence[float]) -> float:
    """Peak signal-to-noise ratio in the window, dB, data range 255; infinite where both are the same in the window."""
    a, b = windowed(normal, window), windowed(image, window)
    if np.array_equal(a, b):
        return math.inf
    return float(peak_signal_noise_ratio(a, b, data_range=GREY_RANGE))


def ssim(image: Image, normal: Image, window: Sequence[float]) -> float:
    """Structural similarity in the window: uniform squares of 7 pixels, K1 0.01, K2 0.03, data range 255."""
    return float(structural_similarity(windowed(normal, window), windowed(image, window), data_range=GREY_RANGE))


def rmse(image: Image, normal: Image, window: Sequence[float]) -> float:
    """Root of the mean squared error, HU, over the pixels whose normal dose lies in the window; nan without any."""
    inside = (normal >= window[0]) & (normal <= window[1])
    return math.sqrt(np.square(image - normal)[inside].mean(dtype=np.float64)) if inside.any() else math.nan


def uniform_tissue(normal: Image, hu_range: Sequence[float] = SOFT_TISSUE_HU) -> Mask:
    """Where a normal-dose image is uniform soft tissue, away from every edge.

    The image is smoothed by a Gaussian of 3 pixels, which leaves little of its noise. A pixel belongs to
    a region where the smoothed image is within ``hu_range`` and rises by less than 4 HU per pixel (white
    noise of 30 HU makes 0.7 HU per pixel: 30 / (sqrt(8 pi) 3^2)). The regions are eroded by 3 pixels.

    Parameters
    ----------
    normal : ndarray
        (H, W), HU.
    hu_range : (float, float)
        HU of soft tissue.

    Returns
    -------
    ndarray
        (H, W) bool.
    """
    smooth = ndimage.gaussian_filter(normal.astype(np.float64), SMOOTHING_PIXELS)
    slope = ndimage.gaussian_gradient_magnitude(normal.astype(np.float64), SMOOTHING_PIXELS)
    region = (smooth >= hu_range[0]) & (smooth <= hu_range[1]) & (slope < STEEPEST_HU_PER_PIXEL)
    return ndimage.binary_erosion(region, iterations=EROSION_PIXELS)


def bias_and_noise(image: Image, normal: Image, region: Mask) -> tuple[float, float]:
    """Mean and standard deviation of the difference to the normal dose in a region, HU; nan below 200 pixels."""
    error = (image - normal)[region].astype(np.float64)
    return (float(error.mean()), float(error.std())) if error.size >= FEWEST_PIXELS else (math.nan, math.nan)
