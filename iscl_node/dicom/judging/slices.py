"""Is a processed slice plausible? If not, nothing of the series is sent.

The measures look at what processing changed. Noise is without mean, without relation to the anatomy, and no stronger
than what the image held; what is different is lost or invented structure. docs/quality.md says what each measure sees
on real data, where the default limits come from, and what no measure sees.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_node.dicom.judging.noise_level import FEWEST_PIXELS, SMOOTHING_PIXELS, local_deviation_hu, uniform_candidates
from iscl_node.dicom.reading.volume import Mask, Slice
from iscl_node.domain import QualityLimits
from iscl_node.errors import QuarantineSeriesError

TISSUE_CLASSES: Final = {
    "lung": (-950.0, -500.0),
    "fat": (-150.0, -30.0),
    "soft tissue": (0.0, 100.0),
    "bone": (250.0, 3000.0),
}
"""HU of the smoothed source. The air around the patient belongs to none: scanners cut its noise off."""
TISSUE_HU: Final = -250.0
"""Above this the smoothed source is tissue: fat and denser."""
SHIFT_PIXELS: Final = 4.0
"""Standard deviation of the Gaussian for local shifts: it sees what is about 8 pixels wide or wider."""
EDGE_PIXELS: Final = 1.5
"""Standard deviation of the Gaussian that finds edges; the structure there is the band between it and twice it."""
EDGE_SHARE: Final = 0.05
"""Part of the changed tissue, the steepest, that counts as edges."""
UNIFORM_SHARE: Final = 0.5
"""Part of the changed tissue, the flattest, that shows what noise alone gives."""

_CLASS_PIXELS: Final = 5
_ROUNDING_HU: Final = 1.0
"""Stored values are whole numbers, so half a step of noise comes and goes even in an image that has none."""
_LEAST_CONTRAST: Final = 6.0
"""Edges are measured where their band has at least six times the energy of uniform tissue; those of a head with its
skull have several hundred times that."""
_STEEPEST_OF_NOISE: Final = 2.2
"""The steepest places of noise alone, as in a cut-out of a brain, have 1.9 to 2.4 times the energy of the flattest;
strong edges are found at any noise, and hold as much of it as the flattest."""

Numbers = npt.NDArray[np.float64]


class ImplausibleResultError(QuarantineSeriesError):
    """A result is outside the limits; ``source_hu`` and ``derived_hu`` show where, in ``frame`` of the instance."""

    frame = 0

    def __init__(self, reason: str, source_hu: Slice, derived_hu: Slice) -> None:
        super().__init__(reason)
        self.source_hu = source_hu
        self.derived_hu = derived_hu


@dataclass(frozen=True)
class SliceQuality:
    """What processing did to a slice.

    Parameters
    ----------
    hu_drift : mapping of str to float
        Mean change of each tissue class that has enough pixels, HU.
    local_shift_hu : float
        The largest change, in either direction, that is left when changes are averaged over about a square centimetre.
    structure_removed : float or None
        Part of the edges' contrast that was removed: 0 for noise alone, 1 if the edges went with it. None where the
        noise hides the edges or too few pixels changed.
    noise_before_hu, noise_after_hu, noise_removed_hu : float
        Median of the standard deviations in squares of 9 pixels of the source, of the result, and of their difference,
        HU, in uniform soft tissue, or in all tissue where there is too little of it; 0 where there is no tissue.
    """

    hu_drift: Mapping[str, float]
    local_shift_hu: float
    structure_removed: float | None
    noise_before_hu: float
    noise_after_hu: float
    noise_removed_hu: float


def judge(source_hu: Slice, derived_hu: Slice, limits: QualityLimits, strength: float = 1.0) -> SliceQuality:
    """Measure a processed slice and hold it against the limits.

    Parameters
    ----------
    source_hu, derived_hu : float32 array, shape (H, W)
        Hounsfield units before and after.
    limits : QualityLimits
        What is let pass.
    strength : float
        How much of the noise was meant to be removed, 0 to 1; only the noise may be expected to scale with it.

    Returns
    -------
    SliceQuality
        The facts, when the slice passes.

    Raises
    ------
    ImplausibleResultError
        When a value is not finite or a limit is exceeded; the message names every limit that is.
    """
    check_numbers(source_hu, derived_hu)
    quality = measure(source_hu, derived_hu)
    faults = "; ".join(_faults(quality, limits, strength))
    if faults:
        raise ImplausibleResultError(faults, source_hu, derived_hu)
    return quality


def check_numbers(source_hu: Slice, derived_hu: Slice) -> None:
    """Check that a processed slice, (H, W) HU, can be written at all.

    Raises
    ------
    ImplausibleResultError
        When it has another shape than the source or values that are not finite.
    """
    if derived_hu.shape != source_hu.shape or not np.isfinite(derived_hu).all():
        raise ImplausibleResultError(
            "the processed image has another shape or values that are not finite", source_hu, derived_hu
        )


def measure(source_hu: Slice, derived_hu: Slice) -> SliceQuality:
    """Measure what processing did to a slice; both float32 arrays of shape (H, W), HU, finite."""
    change = derived_hu - source_hu
    smooth: Slice = ndimage.gaussian_filter(source_hu, SMOOTHING_PIXELS)
    tissue: Mask = smooth > TISSUE_HU
    noise = _noise_mask(source_hu, tissue)
    return SliceQuality(
        hu_drift=dict(_drifts(change, smooth)),
        local_shift_hu=float(np.abs(ndimage.gaussian_filter(change, SHIFT_PIXELS)).max()),
        structure_removed=_structure_removed(source_hu, -change, tissue & (change != 0)),
        noise_before_hu=_median_deviation(source_hu, noise),
        noise_after_hu=_median_deviation(derived_hu, noise),
        noise_removed_hu=_median_deviation(change, noise),
    )


def _faults(quality: SliceQuality, limits: QualityLimits, strength: float) -> Iterator[str]:
    for name, drift in quality.hu_drift.items():
        if abs(drift) > limits.max_hu_drift:
            yield f"the mean of {name} moved by {drift:+.1f} HU (max_hu_drift = {limits.max_hu_drift:g})"
    before = quality.noise_before_hu
    if quality.local_shift_hu > limits.max_local_shift_hu + limits.max_local_shift_per_noise * before:
        yield (
            f"a region was shifted by {quality.local_shift_hu:.1f} HU at {before:.1f} HU of noise "
            f"(max_local_shift_hu = {limits.max_local_shift_hu:g}, "
            f"max_local_shift_per_noise = {limits.max_local_shift_per_noise:g})"
        )
    if (quality.structure_removed or 0.0) > limits.max_structure_removed:
        yield (
            f"{quality.structure_removed:.0%} of the edges' contrast was removed "
            f"(max_structure_removed = {limits.max_structure_removed:g})"
        )
    if quality.noise_removed_hu > strength * limits.max_noise_removed * before + _ROUNDING_HU:
        yield (
            f"{quality.noise_removed_hu:.1f} HU were removed at strength {strength:g} of {before:.1f} HU of noise "
            f"(max_noise_removed = {limits.max_noise_removed:g})"
        )
    if quality.noise_after_hu > limits.max_noise_left * before + _ROUNDING_HU:
        yield (
            f"{quality.noise_after_hu:.1f} HU of noise are left of {before:.1f} HU "
            f"(max_noise_left = {limits.max_noise_left:g})"
        )


def _drifts(change: Slice, smooth: Slice) -> Iterator[tuple[str, float]]:
    """Mean change of each class, away from its borders.

    The smoothed source decides the class: a class chosen by single noisy values would pull in neighbours, and
    their noise, once removed, would show a drift that is none.
    """
    for name, (low, high) in TISSUE_CLASSES.items():
        inside: Mask = (smooth >= low) & (smooth <= high)
        whole: Mask = ndimage.minimum_filter(inside, _CLASS_PIXELS, mode="constant", cval=0)
        if int(whole.sum()) >= FEWEST_PIXELS:
            yield name, float(change[whole].mean(dtype=np.float64))


def _noise_mask(source_hu: Slice, tissue: Mask) -> Mask:
    uniform = uniform_candidates(source_hu)
    return uniform if int(uniform.sum()) >= FEWEST_PIXELS else tissue


def _median_deviation(hu: Slice, where: Mask) -> float:
    return float(np.median(local_deviation_hu(hu)[where])) if where.any() else 0.0


def _structure_removed(source_hu: Slice, removed: Slice, changed: Mask) -> float | None:
    """Regress what was removed on the structure, at edges, less what noise alone gives in uniform tissue.

    A smoothed edge leaves its high-pass in the method noise (Buades et al., Multiscale Model. Simul. 4, 2005, 2.2:
    what a good method removes looks like noise). The source holds its own noise, which is rightly removed: its share
    is measured where there are no edges and subtracted, in covariance and variance alike.
    """
    if int(changed.sum()) < FEWEST_PIXELS:
        return None
    smooth: Slice = ndimage.gaussian_filter(source_hu, EDGE_PIXELS)
    band = smooth - ndimage.gaussian_filter(smooth, EDGE_PIXELS * np.sqrt(3.0))
    slope = ndimage.gaussian_gradient_magnitude(source_hu, EDGE_PIXELS)
    flat, steep = np.quantile(slope[changed], (UNIFORM_SHARE, 1 - EDGE_SHARE))
    edges, uniform = changed & (slope >= steep), changed & (slope <= flat)
    contrast, noise = _covariance(band, band, edges), _covariance(band, band, uniform)
    if contrast < _LEAST_CONTRAST * noise:
        return None
    chosen = 1 + (_STEEPEST_OF_NOISE - 1) * _LEAST_CONTRAST * noise / contrast
    lost = _covariance(removed, band, edges) - chosen * _covariance(removed, band, uniform)
    return lost / (contrast - chosen * noise)


def _covariance(a: Slice, b: Slice, where: Mask) -> float:
    return float(np.mean(a[where].astype(np.float64) * b[where]))
