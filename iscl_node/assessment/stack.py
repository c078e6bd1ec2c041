"""Neighbouring slices: noise along z, flicker, and the stack seen from the front and from the side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy import ndimage

from iscl_node.assessment.cases import LEAST_HU, Mask
from iscl_node.assessment.methods import FloatImage
from iscl_node.assessment.pictures import SOFT_TISSUE
from iscl_node.dicom.judging.body_size import effective_diameter_mm
from iscl_node.dicom.judging.series import series_slice_mm
from iscl_node.dicom.reading.folder import Instance, read_instance
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.reading.volume import to_hu
from monai_bundle.scripts.evaluation.figures import new_figure
from monai_bundle.scripts.evaluation.image_quality import uniform_tissue

FEWEST: Final = 8
MOST: Final = 30
UNIFORM_HU: Final = (-50.0, 150.0)
"""Organs, and the water of phantoms."""
_SIDE: Final = 9


@dataclass(frozen=True)
class Stack:
    """Slices at equal distances, in their order.

    Attributes
    ----------
    name : str
        Whose.
    hu : float32 array, shape (D, H, W)
        HU.
    spacing_mm : (float, float)
        Distance of slices and of pixels.
    slice_mm : float or None
        Thickness of the slices; None where the header has none.
    """

    name: str
    hu: FloatImage
    spacing_mm: tuple[float, float]
    slice_mm: float | None = None

    @property
    def body_mm(self) -> float | None:
        """The body's effective diameter in the middle, mm; None where it is not whole in the picture."""
        return effective_diameter_mm(self.hu[len(self.hu) // 2], self.spacing_mm[1] ** 2)


def find_stacks(series: Sequence[Sequence[Instance]]) -> list[Stack]:
    """The longest run of equally distant slices of each series; of those that have at least eight."""
    return [stack for stack in map(_longest, series) if stack is not None]


def _longest(instances: Sequence[Instance]) -> Stack | None:
    placed = [(position[2], each) for each in instances if (position := numbers(each, "ImagePositionPatient", 3))]
    placed.sort(key=lambda pair: pair[0])
    steps = np.diff([place for place, _ in placed]).round(2)
    runs = np.split(np.arange(len(placed)), np.flatnonzero(steps[1:] != steps[:-1]) + 1) if len(steps) else []
    run = max(runs, key=len, default=np.arange(0))[:MOST]
    spacing = numbers(placed[0][1], "PixelSpacing", 2) if placed else None
    if len(run) < FEWEST or spacing is None:
        return None
    chosen = [read_instance(Path(str(placed[index][1].filename))) for index in run]
    hu = np.stack([np.maximum(to_hu(each), np.float32(LEAST_HU)) for each in chosen])
    distances = abs(float(steps[run[0]])), spacing[0]
    return Stack(str(chosen[0].get("PatientID", "")), hu, distances, series_slice_mm(chosen))


def stack_row(stack: Stack, result: FloatImage) -> dict[str, str | float]:
    """Correlation of the noise of neighbouring slices, its mean frequency along z, and flicker, before and after."""
    uniform = np.stack([uniform_tissue(image, UNIFORM_HU) for image in stack.hu])
    row: dict[str, str | float] = {"stack": stack.name, "slices": len(stack.hu), "pixels": int(uniform.sum())}
    for name, volume in (("as is", stack.hu), ("left", result)):
        noise = np.stack([image - ndimage.gaussian_filter(image, 3) for image in volume])
        row[f"z correlation {name}"] = _neighbours(noise, uniform)
        row[f"z mean frequency {name}"] = _mean_frequency(noise, uniform, stack.spacing_mm[0])
    return row | {"flicker": _flicker(stack.hu - result, uniform)}


def _neighbours(noise: FloatImage, uniform: Mask) -> float:
    both = uniform[1:] & uniform[:-1]
    if not both.any():
        return math.nan
    one, other = noise[1:][both], noise[:-1][both]
    return float(np.mean(one * other) / np.sqrt(np.mean(one**2) * np.mean(other**2)))


def _mean_frequency(noise: FloatImage, uniform: Mask, spacing_mm: float) -> float:
    """1/mm, from all runs of eight slices that are uniform at a place."""
    found = [
        noise[first : first + FEWEST][:, uniform[first : first + FEWEST].all(axis=0)]
        for first in range(0, len(noise) - FEWEST + 1, FEWEST // 2)
    ]
    runs = np.concatenate(found, axis=1)
    if not runs.size:
        return math.nan
    power = np.mean(abs(np.fft.rfft(runs - runs.mean(axis=0), axis=0)) ** 2, axis=1)[1:]
    return float(np.average(np.fft.rfftfreq(FEWEST, spacing_mm)[1:], weights=power))


def _flicker(taken: FloatImage, uniform: Mask) -> float:
    """How much the local mean of what was taken changes from slice to slice, standard deviation in HU."""
    both = uniform[1:] & uniform[:-1]
    if not both.any():
        return math.nan
    means = np.stack([ndimage.uniform_filter(image, _SIDE) for image in taken])
    return float(np.diff(means, axis=0)[both].std() / np.sqrt(2))


def draw_stack(path: Path, stack: Stack, results: dict[str, FloatImage]) -> None:
    """From the front and from the side, as it came and in every form."""
    figure = new_figure(4.0 * (1 + len(results)), 6.0, stack.name)
    axes = np.asarray(figure.subplots(2, 1 + len(results), squeeze=False))
    row, column = (int(each) for each in ndimage.center_of_mass(stack.hu.mean(axis=0) > -300))
    aspect = stack.spacing_mm[0] / stack.spacing_mm[1]
    for number, (title, volume) in enumerate(({"as it came": stack.hu} | results).items()):
        for axis, plane, view in zip(axes[:, number], (volume[:, row], volume[:, :, column]), "ab", strict=True):
            axis.set_title(f"{title}, {'coronal' if view == 'a' else 'sagittal'}", fontsize="small")
            axis.imshow(plane[::-1], cmap="gray", vmin=SOFT_TISSUE[0], vmax=SOFT_TISSUE[1], aspect=aspect)
            axis.set_axis_off()
    figure.savefig(path, dpi=75)
