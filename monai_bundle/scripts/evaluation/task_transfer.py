"""Sharpness at the edges of an image: the task transfer function (TTF) of AAPM TG-233, found without a phantom.

Straight pieces of edge between two even tissues are found in the normal-dose image. Across them the edge spread
function (ESF) of every form is taken at the same places and averaged over all pieces; its derivative is the line
spread function, whose Fourier transform is the TTF. What a denoiser that is not linear does to an edge depends on
contrast and noise, and the noise itself disturbs the ESF: average the images of several draws of the noise first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.signal import windows

from .image_quality import Image

Array = npt.NDArray[np.float64]

REACH = 8
STEP = 0.25
HALF_LENGTH = 4
ACROSS = np.arange(-REACH, REACH + STEP, STEP)
"""Places across an edge, pixels, towards the brighter side."""
ALONG = np.arange(-HALF_LENGTH, HALF_LENGTH + 1.0)
"""Places along an edge, pixels, over which a profile is averaged."""
BELOW, MIDDLE, ABOVE = ACROSS <= -REACH / 2, abs(ACROSS) < REACH / 2, ACROSS >= REACH / 2

SMOOTHING_PIXELS = 1.5
LEAST_CONTRAST_HU = 80.0
LEAST_MARGIN_HU = 20.0
LARGEST_OVERSHOOT = 0.15
LARGEST_BLUR_PIXELS = 1.6
LARGEST_BEND_PIXELS = 1.5
LEAST_DISTANCE_PIXELS = 6.0
MOST_EDGES = 200
FEWEST_EDGES = 20
PADDED_LENGTH = 4096


@dataclass(frozen=True)
class Edges:
    """Straight pieces of edge.

    Attributes
    ----------
    centers : ndarray
        (n, 2), row and column in pixels, on the edge.
    normals : ndarray
        (n, 2), unit vectors across the edge, towards the brighter side.
    """

    centers: Array
    normals: Array

    def __len__(self) -> int:
        return len(self.centers)

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> "Edges":
        return Edges(self.centers[chosen], self.normals[chosen])

    def at(self, along: float | Array, across: float | Array) -> Array:
        """Row and column of places on each piece, (2, n, *shape of the places)."""
        along, across = np.broadcast_arrays(along, across)
        shape = (2, len(self), *(1,) * along.ndim)
        center, normal = self.centers.T.reshape(shape), self.normals.T.reshape(shape)
        return center + across * normal + along * np.stack([-normal[1], normal[0]])

    def patches(self, image: Image, order: int = 3) -> Array:
        """The image around each piece by splines, (n, along, across): see ``ALONG`` and ``ACROSS``."""
        return ndimage.map_coordinates(image.astype(np.float64), self.at(ALONG[:, None], ACROSS), order=order)


def find_edges(normal: Image, window: Sequence[float]) -> Edges:
    """Straight pieces of edge in a normal-dose image, all of which a denoiser of this window may change.

    In the image smoothed by a Gaussian of 1.5 pixels, a piece of 9 pixels is taken where the slope is largest across
    the edge. Its profile, the mean along the piece, must fulfil:

    1. The tissues 4 to 8 pixels off the edge differ by at least 80 HU.
    2. Both are at least 20 HU inside the window.
    3. Nowhere does it leave the range between both by over 15 % of this contrast: no wall or vessel lies between.
    4. It is as steep as an edge blurred by less than 1.6 pixels (standard deviation of a Gaussian).
    5. The place of the edge varies by less than 1.5 pixels along the piece.

    Pieces keep a distance of 6 pixels; of more than 200, so many are drawn. The place across the edge is where a step
    would have the same sum, and no piece is preferred for its slope: the noise of the normal dose makes slopes, and an
    image without this noise would seem blurred there.

    Parameters
    ----------
    normal : ndarray
        (H, W), HU.
    window : (float, float)
        Ends of the window, HU.
    """
    smooth = ndimage.gaussian_filter(normal.astype(np.float64), SMOOTHING_PIXELS)
    edges = _ridges(normal)
    beside = [ndimage.map_coordinates(smooth, edges.at(0, side), order=1) for side in (-6, 6)]
    edges = edges[_differ(*beside, window)]  # a quick look that spares most of the work
    patches = edges.patches(smooth, order=1)
    good = _is_clean(patches, window)
    edges, places = edges[good], _places(patches[good])
    centered = Edges(edges.centers + edges.normals * places.mean(axis=1, keepdims=True), edges.normals)
    return _apart(centered[np.ptp(places, axis=1) < LARGEST_BEND_PIXELS])


def _ridges(image: Image) -> Edges:
    """Pixels where the slope is largest across the edge, far enough from the border."""
    gradient = np.stack(
        [ndimage.gaussian_filter(image, SMOOTHING_PIXELS, order, np.float64) for order in ((1, 0), (0, 1))]
    )
    slope = np.hypot(*gradient)
    # A step that was blurred by twice the smoothing still has this slope.
    steep = slope > LEAST_CONTRAST_HU / (math.sqrt(2 * math.pi) * 2 * SMOOTHING_PIXELS)
    border = math.ceil(math.hypot(REACH, HALF_LENGTH)) + 1
    steep[:border] = steep[-border:] = steep[:, :border] = steep[:, -border:] = False
    edges = Edges(np.argwhere(steep).astype(np.float64), (gradient[:, steep] / slope[steep]).T)
    beside = [ndimage.map_coordinates(slope, edges.at(0, side), order=1) for side in (-1, 1)]
    return edges[slope[steep] >= np.maximum(*beside)]


def _differ(dark: Array, bright: Array, window: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Whether two tissues differ enough and lie in the window."""
    low, high = window[0] + LEAST_MARGIN_HU, window[1] - LEAST_MARGIN_HU
    return (bright - dark >= LEAST_CONTRAST_HU) & (dark >= low) & (bright <= high)


def _is_clean(patches: Array, window: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which patches, (n, along, across), fulfil the rules 1 to 4 of :func:`find_edges`."""
    profiles = patches.mean(axis=1)
    dark, bright = _tissues(patches)
    contrast = bright - dark
    beyond = np.maximum(dark - profiles.min(axis=1), profiles.max(axis=1) - bright)
    slope = np.diff(profiles[:, MIDDLE]).max(axis=1) / STEP
    blur = contrast / (math.sqrt(2 * math.pi) * np.maximum(slope, 1e-9))
    sharp = blur < math.hypot(SMOOTHING_PIXELS, LARGEST_BLUR_PIXELS)
    return _differ(dark, bright, window) & (beyond < LARGEST_OVERSHOOT * contrast) & sharp


def _tissues(patches: Array) -> tuple[Array, Array]:
    """Mean of the darker and of the brighter side of each patch, HU."""
    return patches[:, :, BELOW].mean(axis=(1, 2)), patches[:, :, ABOVE].mean(axis=(1, 2))


def _places(patches: Array) -> Array:
    """Place of the edge in every line across it, (n, along), pixels: where a step would have the same sum."""
    dark, bright = _tissues(patches)
    share = (patches[:, :, MIDDLE] - dark[:, None, None]) / (bright - dark)[:, None, None]
    return REACH / 2 - STEP / 2 - share.sum(axis=2) * STEP


def _apart(edges: Edges) -> Edges:
    """At most 200 pieces that keep their distance, drawn with a fixed seed."""
    chosen: list[int] = []
    for number in np.random.default_rng(0).permutation(len(edges)):
        distances = np.hypot(*(edges.centers[chosen] - edges.centers[number]).T)
        if len(chosen) < MOST_EDGES and (distances >= LEAST_DISTANCE_PIXELS).all():
            chosen.append(int(number))
    return edges[np.array(chosen, dtype=int)]


def edge_spread(image: Image, edges: Edges) -> Array:
    """The image across the edges, mean over all pieces, HU at the places ``ACROSS``."""
    return edges.patches(image).mean(axis=(0, 1))


def transfer(spread: Array) -> tuple[Array, Array]:
    """The TTF of an edge spread function.

    The line spread function is cut by a Tukey window, flat over the middle half.

    Returns
    -------
    frequencies, ttf : ndarray
        In 1/pixel up to 0.5, and the TTF, 1 at frequency 0.
    """
    line = np.diff(spread) / STEP * windows.tukey(len(spread) - 1, 0.5)
    ttf = abs(np.fft.rfft(line, PADDED_LENGTH))
    frequencies = np.fft.rfftfreq(PADDED_LENGTH, STEP)
    shown = frequencies <= 0.5
    return frequencies[shown], (ttf / ttf[0])[shown]


def frequency_at(level: float, frequencies: Array, ttf: Array) -> float:
    """Where the TTF first falls to a level, by a straight line between its samples; nan if it never does."""
    below = np.flatnonzero(ttf < level)
    if not below.size:
        return math.nan
    last = below[0]
    return float(np.interp(-level, -ttf[last - 1 : last + 1], frequencies[last - 1 : last + 1]))
