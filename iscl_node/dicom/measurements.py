"""What a report tells of a derived series: noise before and after, shift of the mean, structure in what was removed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_node.dicom.noise_level import FEWEST_PIXELS, SMOOTHING_PIXELS, SOFT_TISSUE_HU, noise_level_hu
from iscl_node.dicom.volume import Mask, Slice

NOISE_METHOD: Final = (
    "Median over the images of the most frequent standard deviation in squares of 9 x 9 pixels of soft tissue "
    "(global noise level, Christianson et al. 2015)"
)
MEAN_METHOD: Final = (
    "Mean over the pixels of all images that are soft tissue, 0 to 100 HU, in the smoothed derived image; "
    "the same pixels in both series"
)
STRUCTURE_METHOD: Final = (
    "Median over the images of the correlation, at edges, of the removed noise with the negative Laplacian of the "
    "derived image (method noise, Buades et al. 2005): 0 for noise alone, 1 for blur alone"
)

EDGE_WINDOW_HU: Final = (-160.0, 240.0)
"""Edges count when all around is within: fat, organs, vessels. Lung and bone would drown them."""
EDGE_SURROUNDINGS_PIXELS: Final = 7
EDGE_SCALE_PIXELS: Final = 1.5
"""Standard deviation of the Gaussian under the derivatives."""
EDGE_SHARE: Final = 0.05
"""Share of the pixels, those of the steepest gradients, that are taken for edges."""
LEAST_GRADIENT_HU: Final = 5.0
"""Per pixel; below it nothing is an edge: smoothed with 1.5 pixels, white noise of 40 HU has gradients of 5 HU."""
FEWEST_EDGE_PIXELS: Final = 500


@dataclass(frozen=True)
class ImageMeasurements:
    """Of one series: noise and mean of soft tissue in HU, None where there is too little of it."""

    noise_hu: float | None
    mean_hu: float | None


@dataclass(frozen=True)
class SliceMeasurements:
    """Of one slice before and after; the sums in HU are over the same ``tissue_pixels`` pixels of soft tissue."""

    source_noise_hu: float | None
    derived_noise_hu: float | None
    tissue_pixels: int
    source_sum_hu: float
    derived_sum_hu: float
    structure: float | None


@dataclass(frozen=True)
class SeriesMeasurements:
    """Of a whole series before and after.

    In ``measured`` of its ``images`` noise was measured; ``structure`` is that of :func:`structure_in`.
    """

    images: int
    measured: int
    source: ImageMeasurements
    derived: ImageMeasurements
    structure: float | None

    @property
    def mean_shift_hu(self) -> float | None:
        """Mean of soft tissue after minus before."""
        if self.source.mean_hu is None or self.derived.mean_hu is None:
            return None
        return self.derived.mean_hu - self.source.mean_hu

    @property
    def noise_reduction(self) -> float | None:
        """The part of the noise's standard deviation that is gone: 0 is none, 1 is all."""
        if not self.source.noise_hu or self.derived.noise_hu is None:
            return None
        return 1 - self.derived.noise_hu / self.source.noise_hu


def measured_slice(source_hu: Slice, derived_hu: Slice, strength: float) -> SliceMeasurements:
    """Measure one slice.

    Parameters
    ----------
    source_hu, derived_hu : float32 array, shape (H, W)
        HU before and after.
    strength : float
        The part that was removed of what the model found. Structure is looked for as if all of it had been, because
        noise that is left would be correlated with noise that is gone.
    """
    tissue = _soft_tissue(derived_hu)
    removed_hu = (source_hu - derived_hu) / np.float32(strength or 1)
    has_tissue = int(tissue.sum()) >= FEWEST_PIXELS
    return SliceMeasurements(
        source_noise_hu=noise_level_hu(source_hu),
        derived_noise_hu=noise_level_hu(derived_hu),
        tissue_pixels=int(tissue.sum()) if has_tissue else 0,
        source_sum_hu=float(source_hu[tissue].sum(dtype=np.float64)) if has_tissue else 0.0,
        derived_sum_hu=float(derived_hu[tissue].sum(dtype=np.float64)) if has_tissue else 0.0,
        structure=structure_in(removed_hu, source_hu - removed_hu) if strength > 0 else None,
    )


def measured_series(slices: Iterable[SliceMeasurements], images: int) -> SeriesMeasurements:
    """Bring slices of a series of so many images together; noise counts where it was found before and after."""
    each = tuple(slices)
    noisy = [s for s in each if s.source_noise_hu is not None and s.derived_noise_hu is not None]
    pixels = sum(s.tissue_pixels for s in each)
    source_mean = sum(s.source_sum_hu for s in each) / pixels if pixels else None
    derived_mean = sum(s.derived_sum_hu for s in each) / pixels if pixels else None
    return SeriesMeasurements(
        images=images,
        measured=len(noisy),
        source=ImageMeasurements(_median(s.source_noise_hu for s in noisy), source_mean),
        derived=ImageMeasurements(_median(s.derived_noise_hu for s in noisy), derived_mean),
        structure=_median(s.structure for s in each),
    )


def structure_in(removed_hu: Slice, denoised_hu: Slice) -> float | None:
    """Tell how much of what was removed at edges is the edges themselves.

    To blur an image takes away a multiple of its negative Laplacian: the "method noise" of a Gaussian of width h is
    -h^2 times the Laplacian (Buades, Coll and Morel, Multiscale Model. Simul. 4, 2005, doi 10.1137/040616024). So blur
    makes the removed noise correlated with the negative Laplacian of the image, there where its gradient is steepest.
    Noise knows nothing of edges: it gives 0, with a standard error of one over the root of the number of independent
    pixels. Noise that the model did not find, and that is correlated with what it found, adds a little.

    Parameters
    ----------
    removed_hu : float32 array, shape (H, W)
        What the model took for noise, in HU.
    denoised_hu : float32 array, shape (H, W)
        The image without it, in HU.

    Returns
    -------
    float or None
        Pearson's correlation, -1 (sharpened) to 1 (blurred); None when nothing was removed or there are no edges.
    """
    image = denoised_hu.astype(np.float64)
    edges = _edges(image)
    if int(edges.sum()) < FEWEST_EDGE_PIXELS:
        return None
    laplacian = ndimage.gaussian_laplace(image, EDGE_SCALE_PIXELS)
    return _correlation(removed_hu[edges].astype(np.float64), -laplacian[edges])


def _edges(image: npt.NDArray[np.float64]) -> Mask:
    smooth = ndimage.gaussian_filter(image, 1)
    lowest = ndimage.minimum_filter(smooth, EDGE_SURROUNDINGS_PIXELS)
    highest = ndimage.maximum_filter(smooth, EDGE_SURROUNDINGS_PIXELS)
    soft: Mask = (lowest >= EDGE_WINDOW_HU[0]) & (highest <= EDGE_WINDOW_HU[1])
    if not soft.any():
        return soft
    gradient = ndimage.gaussian_gradient_magnitude(image, EDGE_SCALE_PIXELS)
    steep = max(LEAST_GRADIENT_HU, float(np.quantile(gradient[soft], 1 - EDGE_SHARE)))
    soft &= gradient >= steep
    return soft


def _soft_tissue(hu: Slice) -> Mask:
    smooth = ndimage.gaussian_filter(hu, SMOOTHING_PIXELS)
    mask: Mask = (smooth >= SOFT_TISSUE_HU[0]) & (smooth <= SOFT_TISSUE_HU[1])
    return mask


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float | None:
    if not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
