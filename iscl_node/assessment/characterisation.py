"""How well two lesions can be distinguished: round against spiculated, one against two; in water, before and after.

A denoiser may help to see that something is there, and hinder to see what: with strength the first rises while this
falls.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from iscl_node.assessment.detection import INPUT, SIDE, Array, Background, Denoise, seen_by_scanner
from monai_bundle.scripts.evaluation.observers import FINE, disc, non_prewhitening, prewhitening

LESION_MM: Final = 8.0
LESION_HU: Final = 40.0
SPICULES: Final = 8
SPICULATION: Final = 0.35
"""How much the radius of a spiculated lesion varies, as a share of its mean."""
PAIR_MM: Final = 3.0
APART_MM: Final = 4.5
PAIR_HU: Final = 60.0


def spiculated(side: int, diameter: float) -> Array:
    """A star of the area of a disc, of height 1, (side, side)."""
    place = (np.arange(side * FINE) + 0.5) / FINE - side / 2
    angle = np.arctan2(place[:, None], place)
    radius = diameter / 2 * (1 + SPICULATION * np.cos(SPICULES * angle)) / np.sqrt(1 + SPICULATION**2 / 2)
    inside = np.hypot(place[:, None], place) <= radius
    return np.asarray(inside.reshape(side, FINE, side, FINE).mean(axis=(1, 3)))


def two_discs(side: int, diameter: float, apart: float) -> Array:
    """Two discs of height 1 side by side, (side, side), pixels."""
    place = (np.arange(side * FINE) + 0.5) / FINE - side / 2
    inside = [np.hypot(place[:, None], place - at) <= diameter / 2 for at in (-apart / 2, apart / 2)]
    return np.asarray(np.any(inside, axis=0).reshape(side, FINE, side, FINE).mean(axis=(1, 3)))


def tasks(spacing_mm: float) -> dict[str, tuple[Array, Array]]:
    """Name of a task to the two lesions that are to be distinguished, as the scanner shows them, HU."""
    lesion, pair, apart = (length / spacing_mm for length in (LESION_MM, PAIR_MM, APART_MM))
    alternatives = {
        "round or spiculated": (LESION_HU * disc(SIDE, lesion), LESION_HU * spiculated(SIDE, lesion)),
        "one or two": (PAIR_HU * disc(SIDE, pair * np.sqrt(2)), PAIR_HU * two_discs(SIDE, pair, apart)),
    }
    return {
        name: (seen_by_scanner(one, spacing_mm), seen_by_scanner(other, spacing_mm))
        for name, (one, other) in alternatives.items()
    }


def characterisation(background: Background, denoise: Denoise) -> Iterator[dict[str, str | float]]:
    """A row for each task and form: d' before, and its change."""
    for name, lesions in tasks(background.spacing_mm).items():
        shown = [_squares(background, lesion, denoise) for lesion in lesions]
        seen = {form: _told_apart(shown[0][form], shown[1][form]) for form in shown[0]}
        for form in seen.keys() - {INPUT}:
            yield {
                "task": name,
                "form": form,
                "d' prewhitening before": seen[INPUT][0],
                "d' prewhitening": seen[form][0] / seen[INPUT][0] - 1,
                "d' NPW before": seen[INPUT][1],
                "d' NPW": seen[form][1] / seen[INPUT][1] - 1,
            }


def _squares(background: Background, lesion: Array, denoise: Denoise) -> dict[str, Array]:
    found: dict[str, list[Array]] = {}
    for image in background.with_signal(lesion):
        for form, result in ({INPUT: image} | denoise(image)).items():
            found.setdefault(form, []).append(background.cut(result))
    return {form: np.concatenate(pieces) for form, pieces in found.items()}


def _told_apart(one: Array, other: Array) -> tuple[float, float]:
    difference = (one - other).mean(axis=0)
    noise = np.concatenate([one - one.mean(axis=0), other - other.mean(axis=0)])
    return prewhitening(difference, noise), non_prewhitening(difference, noise)
