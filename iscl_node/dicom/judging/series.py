"""Is the series one that the model was made for, and is each derived slice that of its source?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy import ndimage

from iscl_node.dicom.judging.body_size import effective_diameter_mm
from iscl_node.dicom.judging.noise_level import noise_correlation, noise_level_hu
from iscl_node.dicom.judging.slices import ImplausibleResultError
from iscl_node.dicom.reading.legible import texts
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.reading.volume import Slice
from iscl_node.domain import QualityLimits
from iscl_node.errors import QuarantineSeriesError

SAMPLES: Final = 16
"""Noise is measured in so many slices, evenly spread; its median leaves out shoulders and the first slices."""
SIDE: Final = 32
"""A slice is recognised by its means on a grid of 32 x 32, in which little noise is left."""
RECOGNISED_HU: Final = (-1000.0, 1000.0)
"""Metal and padding, far out of this range, would outweigh all else."""

_SAME_HU: Final = 1.0
"""Slices whose grids differ by less (root mean square) are taken to be the same."""
_NEARER: Final = 1.5
"""A derived slice belongs to another source only if that is nearer by this factor: two slices that differ by little
more than their noise cannot be distinguished."""

_AT_ONCE: Final = 256
"""So many derived slices are compared with all sources at once."""

Grid = npt.NDArray[np.float64]
T = TypeVar("T")


def sample(items: Sequence[T]) -> list[T]:
    """Return up to sixteen items, evenly spread."""
    chosen = np.linspace(0, len(items) - 1, min(SAMPLES, len(items))).round().astype(int)
    return [items[number] for number in chosen]


@dataclass(frozen=True)
class SeriesNoise:
    """The noise of a series, by the median of slices.

    ``level_hu`` as :func:`noise_level_hu`, ``correlation`` as :func:`noise_correlation`; None where no slice holds
    enough soft tissue. ``middle`` is the middle one of the slices, for a picture.
    """

    level_hu: float | None
    correlation: float | None
    middle: Slice | None = None


def series_noise(images_hu: Iterable[Slice]) -> SeriesNoise:
    """Measure the noise of a series in its slices, or a :func:`sample` of them, float32 arrays (H, W), HU."""
    images = list(images_hu)
    middle = images[len(images) // 2] if images else None
    return SeriesNoise(series_noise_level_hu(images), median_of_known(map(noise_correlation, images)), middle)


def series_noise_level_hu(images_hu: Iterable[Slice]) -> float | None:
    """Median of the noise of slices, HU; None where no slice holds enough soft tissue."""
    return median_of_known(map(noise_level_hu, images_hu))


def series_body_mm(slices: Iterable[tuple[Slice, Dataset]]) -> float | None:
    """Median of the body's effective diameter in slices with a pixel spacing, mm; None where it is in none of them."""
    return median_of_known(map(_body_mm, slices))


def series_slice_mm(slices: Iterable[Dataset]) -> float | None:
    """Median of the Slice Thickness, mm; None where no slice has one."""
    known = (numbers(dataset, "SliceThickness", 1) for dataset in slices)
    return median_of_known(each[0] for each in known if each and each[0] > 0)


def _body_mm(pair: tuple[Slice, Dataset]) -> float | None:
    hu, dataset = pair
    spacing = numbers(dataset, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        return None
    return effective_diameter_mm(hu, spacing[0] * spacing[1])


def judge_input(noise: SeriesNoise, limits: QualityLimits) -> None:
    """Hold the noise of a series against what the model was made for; without soft tissue nothing is said.

    Raises
    ------
    ImplausibleResultError
        When the noise is above ``max_noise_hu``, or its correlation below ``min_noise_correlation``.
    """
    if noise.middle is None:
        return
    if noise.level_hu is not None and noise.level_hu > limits.max_noise_hu:
        raise ImplausibleResultError(
            f"the source has {noise.level_hu:.0f} HU of noise, more than the model was made for "
            f"(max_noise_hu = {limits.max_noise_hu:g})",
            noise.middle,
            noise.middle,
        )
    if noise.correlation is not None and noise.correlation < limits.min_noise_correlation:
        raise ImplausibleResultError(
            f"the noise of neighbouring pixels correlates by {noise.correlation:.3f}, as with a sharper kernel than "
            f"the model was made for (min_noise_correlation = {limits.min_noise_correlation:g})",
            noise.middle,
            noise.middle,
        )


class SeriesJudge:
    """Checks that each derived slice is that of its source and of no other, slice by slice: no series is ever held."""

    def __init__(self) -> None:
        self._sources: list[Grid] = []
        self._derived: list[Grid] = []

    def add(self, source: Dataset, derived: Dataset, source_hu: Slice, derived_hu: Slice) -> None:
        """Take the next slice or frame of a series with what was derived from it, read back from what is to be sent.

        Raises
        ------
        QuarantineSeriesError
            When it lies elsewhere than its source, or names another one.
        """
        _check_place(source, derived)
        self._sources.append(_grid(source_hu))
        self._derived.append(_grid(derived_hu))

    def end(self, images_hu: Callable[[int], tuple[Slice, Slice]]) -> None:
        """Judge when all are taken.

        Parameters
        ----------
        images_hu : callable
            Gives slice and derived slice of a number once more, for the picture.

        Raises
        ------
        ImplausibleResultError
            When a derived slice looks like another source.
        """
        for own, other in _confused(np.array(self._sources), np.array(self._derived)):
            raise ImplausibleResultError(
                f"the derived slice {own + 1} of {len(self._sources)} shows what is in source slice {other + 1}",
                *images_hu(own),
            )


def median_of_known(values: Iterable[float | None]) -> float | None:
    """Median of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _check_place(source: Dataset, derived: Dataset) -> None:
    """The same place in the patient (PS3.3 C.7.6.2), and the source named (PS3.3 C.7.6.1.1.4) where any is.

    A place that is not a number differs from itself as a number, and not as a text.
    """
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if derived.get(keyword) != source.get(keyword) and texts(derived, keyword)[0] != texts(source, keyword)[0]:
            raise QuarantineSeriesError(f"a derived slice has another {keyword} than its source")
    named = [item.get("ReferencedSOPInstanceUID") for item in derived.get("SourceImageSequence") or ()]
    if named and source.SOPInstanceUID not in named:
        raise QuarantineSeriesError("a derived slice names another source than its own")


def _grid(hu: Slice) -> Grid:
    """Means of the slice at 32 x 32 places, flat; of slices of any size."""
    shape = [max(1, round(length / SIDE)) for length in hu.shape]
    smooth = ndimage.uniform_filter(hu.clip(*RECOGNISED_HU), shape)
    rows, columns = (np.linspace(0, length - 1, SIDE).round().astype(int) for length in hu.shape)
    grid: Grid = smooth[np.ix_(rows, columns)].astype(np.float64).ravel()
    return grid


def _confused(sources: Grid, derived: Grid) -> Iterator[tuple[int, int]]:
    """Numbers of the derived slices that are much nearer to another source than to their own, and of that source."""
    for first in range(0, len(derived), _AT_ONCE):
        distances = _distances(derived[first : first + _AT_ONCE], sources)
        for number, (row, other) in enumerate(zip(distances, distances.argmin(axis=1), strict=True), start=first):
            if row[number] > _NEARER * row[other] + _SAME_HU:
                yield number, int(other)


def _distances(some: Grid, others: Grid) -> Grid:
    """Root mean square of the difference, in HU, of each of some grids (rows) from each of others (columns).

    |a - b|^2 is a^2 - 2ab + b^2, a product of matrices; what rounding makes of equal ones is 1e-5 HU.
    """
    squares = np.square(some).sum(axis=1)[:, None] - 2 * some @ others.T + np.square(others).sum(axis=1)
    distances: Grid = np.sqrt(squares.clip(0) / others.shape[1])
    return distances
