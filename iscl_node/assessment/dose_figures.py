"""Figures of one result at a simulated low dose, against the normal dose and against the low dose itself."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iscl_node.assessment.cases import BINS, FEWEST_PIXELS, WINDOW, LowDose, Mask
from iscl_node.assessment.methods import FloatImage
from monai_bundle.scripts.evaluation.image_quality import psnr, ssim
from monai_bundle.scripts.evaluation.noise_power import noise_power
from monai_bundle.scripts.evaluation.task_transfer import FEWEST_EDGES, edge_spread, frequency_at, transfer

Figures = dict[str, float]

SPECK_LEVELS: Final = 4.0
"""A pixel is a speck if it is so many noise levels off the median of the 5 x 5 pixels around it."""


def figures(low: LowDose, results: Sequence[FloatImage]) -> Figures:
    """Everything that is measured of the results of all draws; nan where there is too little to measure on."""
    return (
        _gains(low, results)
        | _noise(low, results)
        | _sharpness(low, results)
        | _bias(low, results)
        | {"specks": specks(low, results[0])}
    )


def _gains(low: LowDose, results: Sequence[FloatImage]) -> Figures:
    normal, tissue = low.case.hu, low.case.tissue
    whole = [
        psnr(result, normal, WINDOW) - psnr(image, normal, WINDOW)
        for result, image in zip(results, low.images, strict=True)
    ]
    similarity = ssim(results[0], normal, WINDOW) - ssim(low.images[0], normal, WINDOW)
    left, before = (
        np.mean([_fine(image - normal)[tissue].var() for image in images]) for images in (results, low.images)
    )
    gained = 10 * math.log10(before / max(left, 1e-9)) if tissue.sum() >= FEWEST_PIXELS else math.nan
    limit = low.ceiling.gain_db if low.ceiling else math.nan
    return {
        "gain": float(np.mean(whole)),
        "ssim": similarity,
        "ceiling": limit,
        "tissue gain": gained,
        "share": gained / limit,
    }


def _noise(low: LowDose, results: Sequence[FloatImage]) -> Figures:
    tissue, body = low.case.tissue, low.case.body
    enough = tissue.sum() >= FEWEST_PIXELS
    level = {name: _level(images, tissue) if enough else math.nan for name, images in _both(low, results)}
    apart = {name: _between_draws(images, body) for name, images in _both(low, results)}
    depths = {
        f"removed, {name}": 1 - _between_draws(results, region) / _between_draws(low.images, region)
        for name, region in low.case.depths.items()
    }
    return depths | {
        "noise before": level["before"],
        "removed": 1 - level["after"] / level["before"],
        "removed in anatomy": 1 - apart["after"] / apart["before"],
        "NPS": _mean_frequency(low, results) / _mean_frequency(low, low.images) - 1,
    }


def _both(low: LowDose, results: Sequence[FloatImage]) -> tuple[tuple[str, Sequence[FloatImage]], ...]:
    return ("before", low.images), ("after", results)


def _level(images: Sequence[FloatImage], region: Mask) -> float:
    return float(np.mean([_fine(image)[region].std() for image in images]))


def _between_draws(images: Sequence[FloatImage], region: Mask) -> float:
    """Noise that differs from draw to draw, so that anatomy does not count; nan with a single draw."""
    if len(images) < 2 or not region.any():
        return math.nan
    return float(np.sqrt(np.var(np.stack([each[region] for each in images]), axis=0, ddof=1).mean()))


def _mean_frequency(low: LowDose, images: Sequence[FloatImage]) -> float:
    if not low.case.squares:
        return math.nan
    squares = np.stack([image[each] for image in images for each in low.case.squares])
    return float(noise_power(squares, low.case.spacing_mm).mean_frequency)


def _sharpness(low: LowDose, results: Sequence[FloatImage]) -> Figures:
    """Frequencies at which the transfer at edges falls to 50 and 10 %, over those of the low dose."""
    edges = low.case.edges
    if len(edges) < FEWEST_EDGES:
        return {"TTF 50": math.nan, "TTF 10": math.nan}
    curves = {name: transfer(edge_spread(np.mean(images, axis=0), edges)) for name, images in _both(low, results)}
    return {
        f"TTF {percent}": frequency_at(percent / 100, *curves["after"]) / frequency_at(percent / 100, *curves["before"])
        for percent in (50, 10)
    }


def _bias(low: LowDose, results: Sequence[FloatImage]) -> Figures:
    change = np.mean([result - image for result, image in zip(results, low.images, strict=True)], axis=0)
    empty = {f"bias {first} to {last}": math.nan for first, last in pairwise(BINS)}
    return empty | {
        f"bias {first} to {last}": float(change[region].mean(dtype=np.float64))
        for (first, last), region in low.case.bins.items()
    }


def specks(low: LowDose, result: FloatImage) -> float:
    """Part of the body further from its neighbourhood than 4 levels of the noise in the normal dose, per mille."""
    if low.ceiling is None:
        return math.nan
    off = abs(result - ndimage.median_filter(result, 5)) > SPECK_LEVELS * max(low.ceiling.reference_hu, 10)
    expected = abs(low.case.hu - ndimage.median_filter(low.case.hu, 5)) > 2 * max(low.ceiling.reference_hu, 10)
    return 1000 * float(np.mean((off & ~expected)[low.case.body]))


def _fine(image: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """What is finer than 3 pixels."""
    return np.asarray(image - ndimage.gaussian_filter(image, 3))
