"""A page of pictures: what a reader sees, for the cases that differ most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from iscl_node.assessment.methods import FloatImage
from monai_bundle.scripts.evaluation.figures import body, new_figure

SOFT_TISSUE: Final = (-160.0, 240.0)
LUNG: Final = (-1350.0, 150.0)
REMOVED_HU: Final = 60.0
MOST: Final = 8
_INCHES: Final = 3.4


@dataclass(frozen=True)
class Shown:
    """A slice in the states that are shown, (H, W) HU.

    Attributes
    ----------
    title : str
        Patient, kernel, dose.
    low, normal : float32 array
        The low dose, and the normal dose it was made of; a real low dose has none.
    results : dict
        By form.
    """

    title: str
    low: FloatImage
    normal: FloatImage | None
    results: dict[str, FloatImage]


def draw_page(path: Path, shown: Sequence[Shown]) -> None:
    """Two rows for each slice: the soft-tissue window; below it the lung window as it came, and what was removed."""
    chosen = shown[:MOST]
    first = 1 if all(each.normal is None for each in chosen) else 2
    columns = first + max(len(each.results) for each in chosen)
    figure = new_figure(_INCHES * columns, 2 * _INCHES * 0.82 * len(chosen) + 0.5, "What the node makes of it")
    axes = np.asarray(figure.subplots(2 * len(chosen), columns, squeeze=False))
    for axis in axes.ravel():
        axis.set_axis_off()
    for number, each in enumerate(chosen):
        _draw(axes[2 * number], axes[2 * number + 1], each, first)
    figure.savefig(path, dpi=75)


def _draw(above: Sequence[Axes], below: Sequence[Axes], shown: Shown, first: int) -> None:
    part = body(shown.low if shown.normal is None else shown.normal, -300)
    _show(above[0], shown.low[part], shown.title, SOFT_TISSUE)
    _show(below[0], shown.low[part], "the same, window of the lung", LUNG)
    if shown.normal is not None:
        _show(above[1], shown.normal[part], "normal dose", SOFT_TISSUE)
        _show(below[1], (shown.low - shown.normal)[part], "what was added, ±60 HU", (-REMOVED_HU, REMOVED_HU))
    for upper, lower, (form, result) in zip(above[first:], below[first:], shown.results.items(), strict=False):
        _show(upper, result[part], form, SOFT_TISSUE)
        _show(lower, (shown.low - result)[part], "what was removed, ±60 HU", (-REMOVED_HU, REMOVED_HU))


def _show(axis: Axes, image: FloatImage, title: str, window: tuple[float, float]) -> None:
    axis.set_title(title, fontsize="small")
    axis.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
