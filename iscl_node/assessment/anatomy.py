"""Faint discs in soft tissue, with any neighbours: how much of their contrast is kept, and how they are seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from scipy import ndimage

from iscl_node.assessment.cases import Case, LowDose
from iscl_node.assessment.detection import DISCS, SIDE, Place, seen_by_scanner
from iscl_node.assessment.methods import FloatImage
from monai_bundle.scripts.evaluation.observers import disc, non_prewhitening

STEP: Final = 26
"""Pixels between discs, on a grid."""
SOFT_HU: Final = (0.0, 120.0)
FEWEST: Final = 2
"""Discs of each kind; with fewer nothing is said."""


@dataclass(frozen=True)
class DiscsInAnatomy:
    """The four kinds of disc, in turn, in the soft tissue of a slice.

    Attributes
    ----------
    case : Case
        The slice.
    """

    case: Case

    @cached_property
    def places(self) -> list[Place]:
        """First row and column of the squares around the discs."""
        smooth = ndimage.gaussian_filter(self.case.hu, 3)
        soft = ndimage.binary_erosion((smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]), iterations=3)
        rows, columns = (range(0, side - SIDE + 1, STEP) for side in soft.shape)
        return [(row, column) for row in rows for column in columns if soft[row + SIDE // 2, column + SIDE // 2]]

    @cached_property
    def added(self) -> FloatImage:
        """All discs, (H, W) HU."""
        image = np.zeros(self.case.hu.shape, np.float32)
        shown = [
            seen_by_scanner(contrast * disc(SIDE, diameter / self.case.spacing_mm), self.case.spacing_mm)
            for diameter, contrast in DISCS
        ]
        for number, (row, column) in enumerate(self.places):
            image[row : row + SIDE, column : column + SIDE] += shown[number % len(DISCS)].astype(np.float32)
        return image

    def kept(self, change: FloatImage) -> dict[str, float]:
        """The part of each kind's contrast that a change of the result, caused by the discs, holds."""
        return {f"contrast kept, {DISCS[kind][0]} mm": self._kept(change, kind) for kind in range(len(DISCS))}

    def _kept(self, change: FloatImage, kind: int) -> float:
        inside = disc(SIDE, DISCS[kind][0] / self.case.spacing_mm)
        places = self.places[kind :: len(DISCS)]
        if len(places) < FEWEST:
            return float("nan")
        sums = [
            sum(float(np.sum(image[row : row + SIDE, column : column + SIDE] * inside)) for row, column in places)
            for image in (change, self.added)
        ]
        return sums[0] / sums[1]

    def seen(self, change: FloatImage, images: Sequence[FloatImage]) -> dict[str, float]:
        """d' of the non-prewhitening observer for each kind of disc, from the noise between draws; nan for too few."""
        return {f"d' NPW, {DISCS[kind][0]} mm": self._seen(change, images, kind) for kind in range(len(DISCS))}

    def _seen(self, change: FloatImage, images: Sequence[FloatImage], kind: int) -> float:
        places = self.places[kind :: len(DISCS)]
        if len(places) < FEWEST or len(images) < FEWEST:
            return float("nan")
        squares = np.stack([[image[_square(place)] for place in self.places] for image in images]).astype(np.float64)
        noise = (squares - squares.mean(axis=0)) * np.sqrt(len(images) / (len(images) - 1))
        difference = np.asarray(np.mean([change[_square(place)] for place in places], axis=0), np.float64)
        return non_prewhitening(difference, noise.reshape(-1, SIDE, SIDE))


def _square(place: Place) -> tuple[slice, slice]:
    return slice(place[0], place[0] + SIDE), slice(place[1], place[1] + SIDE)


def with_discs(low: LowDose) -> tuple[DiscsInAnatomy, FloatImage]:
    """The discs, and the first draw of a low dose with them."""
    discs = DiscsInAnatomy(low.case)
    return discs, low.images[0] + discs.added
