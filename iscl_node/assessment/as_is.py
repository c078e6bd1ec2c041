"""Figures of a real slice as it came, without a reference: what is left, and what was taken."""

import math
from typing import Final

import numpy as np
from scipy import ndimage, stats

from iscl_node.assessment.cases import FEWEST_PIXELS, Case
from iscl_node.assessment.methods import FloatImage
from iscl_node.dicom.judging.noise_level import noise_level_hu
from monai_bundle.scripts.evaluation.noise_power import NoisePower, noise_power

BLOTCHES: Final = 0.15
"""1/mm; noise below is seen as blotches."""


def as_is(case: Case, result: FloatImage) -> dict[str, float]:
    """Noise before and after, its spectrum, blotches, kurtosis of what is left, and structure in what was taken."""
    before, after = (noise_level_hu(image) or math.nan for image in (case.hu, result))
    spectra = [_spectrum(case, image) for image in (case.hu, result)]
    frequencies, blotches = zip(*((_mean_frequency(each), _blotches(each)) for each in spectra), strict=True)
    return {
        "noise as is": before,
        "noise left": after,
        "NPS as is": frequencies[0],
        "NPS left": frequencies[1],
        "blotches as is": blotches[0],
        "blotches left": blotches[1],
        "kurtosis left": _kurtosis(case, result),
        "structure taken": structure(case, case.hu - result),
    }


def _spectrum(case: Case, image: FloatImage) -> NoisePower | None:
    if not case.squares:
        return None
    return noise_power(np.stack([image[each] for each in case.squares]), case.spacing_mm)


def _mean_frequency(spectrum: NoisePower | None) -> float:
    return spectrum.mean_frequency if spectrum else math.nan


def _blotches(spectrum: NoisePower | None) -> float:
    """Part of the noise that is coarse."""
    if spectrum is None:
        return math.nan
    weights = spectrum.power * spectrum.frequencies
    return float(weights[spectrum.frequencies < BLOTCHES].sum() / weights.sum())


def _kurtosis(case: Case, result: FloatImage) -> float:
    """Excess kurtosis of the fine noise in uniform tissue: 0 for that of a scanner."""
    if case.tissue.sum() < FEWEST_PIXELS:
        return math.nan
    return float(stats.kurtosis((result - ndimage.gaussian_filter(result, 3))[case.tissue]))


def structure(case: Case, taken: FloatImage) -> float:
    """How much more was taken at edges than in uniform tissue, as a ratio of standard deviations."""
    slope = ndimage.gaussian_gradient_magnitude(case.hu, 1.5)
    edges = case.body & (slope > np.percentile(slope[case.body], 95)) if case.body.any() else case.body
    if not edges.any() or case.tissue.sum() < FEWEST_PIXELS:
        return math.nan
    return float(taken[edges].std() / max(float(taken[case.tissue].std()), 1e-6))
