"""How much noise an image holds, measured in the image alone."""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_node.dicom.reading.volume import Mask, Slice

SOFT_TISSUE_HU: Final = (0.0, 100.0)
"""Brain, muscle, organs, blood: what is smoothed to a value in here is taken for soft tissue."""
SMOOTHING_PIXELS: Final = 3.0
"""Standard deviation of the Gaussian that finds soft tissue below the noise."""
SLOPE_PIXELS: Final = 4.0
"""Standard deviation of the Gaussian whose slope is least in uniform tissue; with less, it is least where the noise is,
too."""
SQUARE_PIXELS: Final = 9
"""Side of the square in which a standard deviation is taken: 6 mm (Christianson) at the usual 0.7 mm per pixel."""
FEWEST_PIXELS: Final = 1000
"""With fewer pixels of soft tissue the most frequent standard deviation is a matter of chance."""

_LOG_BIN: Final = 0.02
_SMOOTHING_BINS: Final = 4.0
_LEAST_HU: Final = 1e-2


def noise_level_hu(hu: Slice) -> float | None:
    """Estimate the standard deviation of the noise in uniform soft tissue.

    The global noise level of Christianson et al. (Am. J. Roentgenol. 205, 2015, doi 10.2214/AJR.14.13613): the most
    frequent of the standard deviations in small squares of soft tissue. Squares with an edge in them hold more than
    noise, but each its own amount, so the most frequent value is that of the uniform ones. Three things differ: soft
    tissue is found in the smoothed image, or noise of 50 HU would leave none of it; only its half with the least slope
    counts, or the most frequent value of contrasted vessels and bowel would be that of structure; and the squares are
    of 9 pixels of any size in mm. Structure coarser than the square does not count, nor does noise as coarse.

    Parameters
    ----------
    hu : float32 array, shape (H, W)
        Hounsfield units.

    Returns
    -------
    float or None
        HU; None when there is too little soft tissue.
    """
    uniform = uniform_candidates(hu)
    if int(uniform.sum()) < FEWEST_PIXELS:
        return None
    slope = ndimage.gaussian_gradient_magnitude(hu, SLOPE_PIXELS)
    flat = uniform & (slope <= np.median(slope[uniform]))
    return _most_frequent(np.maximum(local_deviation_hu(hu)[flat], _LEAST_HU))


def local_deviation_hu(hu: Slice) -> npt.NDArray[np.float64]:
    """Standard deviation in the square of 9 pixels around each pixel, shape (H, W), HU."""
    # From the mean down, or the square of -1024 costs the small variance its digits.
    values = hu.astype(np.float64) - float(hu.mean(dtype=np.float64))
    mean = ndimage.uniform_filter(values, SQUARE_PIXELS)
    variance: npt.NDArray[np.float64] = ndimage.uniform_filter(values * values, SQUARE_PIXELS) - mean * mean
    return np.sqrt(np.maximum(variance, 0.0))


def uniform_candidates(hu: Slice) -> Mask:
    """Pixels around which the whole square is soft tissue in the smoothed image, shape (H, W)."""
    smooth = ndimage.gaussian_filter(hu, SMOOTHING_PIXELS)
    soft = (smooth >= SOFT_TISSUE_HU[0]) & (smooth <= SOFT_TISSUE_HU[1])
    whole: Mask = ndimage.minimum_filter(soft, SQUARE_PIXELS, mode="constant", cval=0)
    return whole


def noise_correlation(hu: Slice) -> float | None:
    """Estimate how much the noise of neighbouring pixels has in common: the correlation at a distance of one pixel.

    A sharp kernel (bone, lung) makes fine noise, whose neighbours are hardly alike, a soft one coarse noise. It is
    measured in the more uniform half of soft tissue, less the mean over the square of 9 pixels, as the mean of rows and
    columns, from the variance of the differences of neighbours: 1 - E[(a - b)^2] / 2 E[a^2].

    Parameters
    ----------
    hu : float32 array, shape (H, W)
        Hounsfield units.

    Returns
    -------
    float or None
        -1 to 1, 0 for white noise; None when there is too little soft tissue or no noise at all.
    """
    uniform = uniform_candidates(hu)
    if int(uniform.sum()) < FEWEST_PIXELS:
        return None
    deviations = local_deviation_hu(hu)
    uniform &= deviations <= np.median(deviations[uniform])
    noise = hu - ndimage.uniform_filter(hu, SQUARE_PIXELS)
    variance = float(np.mean(noise[uniform] ** 2))
    if variance < _LEAST_HU**2:
        return None
    rows = (noise[1:] - noise[:-1])[uniform[1:] & uniform[:-1]]
    columns = (noise[:, 1:] - noise[:, :-1])[uniform[:, 1:] & uniform[:, :-1]]
    return 1 - float(np.mean(rows**2) + np.mean(columns**2)) / (4 * variance)


def _most_frequent(values: npt.NDArray[np.float64]) -> float:
    logs = np.log(values)
    edges = np.arange(logs.min() - _LOG_BIN, logs.max() + 2 * _LOG_BIN, _LOG_BIN)
    counts, _ = np.histogram(logs, edges)
    frequencies = ndimage.gaussian_filter1d(counts.astype(np.float64), _SMOOTHING_BINS, mode="constant")
    peak = int(frequencies.argmax())
    return float(np.exp((edges[peak] + edges[peak + 1]) / 2))
