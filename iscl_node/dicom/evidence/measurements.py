"""What a report says of a derived series: noise before and after, shift of the mean, structure in what was removed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage

from iscl_node.dicom.judging.noise_level import FEWEST_PIXELS, SMOOTHING_PIXELS, SOFT_TISSUE_HU, noise_level_hu
from iscl_node.dicom.judging.slices import measure
from iscl_node.dicom.reading.volume import Mask, Slice

NOISE_METHOD: Final = (
    "Median over the images of the most frequent standard deviation in squares of 9 x 9 pixels of soft tissue "
    "(global noise level, Christianson et al. 2015)"
)
MEAN_METHOD: Final = (
    "Mean over the pixels of all images that are soft tissue, 0 to 100 HU, in the smoothed derived image; "
    "the same pixels in both series"
)
STRUCTURE_METHOD: Final = (
    "Median over the images of the part of the edges' contrast that was removed, in the band of 1.5 to 3 pixels, less "
    "what noise alone gives (method noise, Buades et al. 2005): 0 for noise alone, about 1 where the edges went with it"
)


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

    In ``measured`` of its ``images`` noise was measured; ``structure`` is that of the judge (``dicom/quality``).
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


def measured_slice(source_hu: Slice, derived_hu: Slice) -> SliceMeasurements:
    """Measure one slice; both of shape (H, W), in HU."""
    tissue = _soft_tissue(derived_hu)
    has_tissue = int(tissue.sum()) >= FEWEST_PIXELS
    return SliceMeasurements(
        source_noise_hu=noise_level_hu(source_hu),
        derived_noise_hu=noise_level_hu(derived_hu),
        tissue_pixels=int(tissue.sum()) if has_tissue else 0,
        source_sum_hu=float(source_hu[tissue].sum(dtype=np.float64)) if has_tissue else 0.0,
        derived_sum_hu=float(derived_hu[tissue].sum(dtype=np.float64)) if has_tissue else 0.0,
        structure=measure(source_hu, derived_hu).structure_removed,
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


def mean_shift_hu(pairs: Iterable[tuple[Slice, Slice]]) -> float | None:
    """Mean of soft tissue after minus before over slices, each before and after, (H, W) HU; None without tissue."""
    pixels, total = 0, 0.0
    for source_hu, derived_hu in pairs:
        tissue = _soft_tissue(derived_hu)
        if (count := int(tissue.sum())) >= FEWEST_PIXELS:
            pixels += count
            total += float((derived_hu[tissue] - source_hu[tissue]).sum(dtype=np.float64))
    return total / pixels if pixels else None


def _soft_tissue(hu: Slice) -> Mask:
    smooth = ndimage.gaussian_filter(hu, SMOOTHING_PIXELS)
    mask: Mask = (smooth >= SOFT_TISSUE_HU[0]) & (smooth <= SOFT_TISSUE_HU[1])
    return mask


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
