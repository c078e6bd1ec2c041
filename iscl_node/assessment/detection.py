"""How faint discs fare: contrast kept, and d' of model observers before and after, in water and in what one is given.

The discs are those of the low-contrast phantom of FDA and MITA (CCT189): 3, 5, 7 and 10 mm of 14, 7, 5 and 3 HU. Every
disc is put into an image and taken through the denoiser with the same noise as the image without it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from iscl_node.assessment.methods import FloatImage
from iscl_node.simulation.low_dose import Scanner, low_dose_noise
from iscl_node.simulation.series import slice_generator
from monai_bundle.scripts.evaluation.noise_power import noise_power
from monai_bundle.scripts.evaluation.observers import (
    channelised_hotelling,
    disc,
    from_spectra,
    laguerre_gauss,
    non_prewhitening,
)

Array = npt.NDArray[np.float64]
Place = tuple[int, int]
Denoise = Callable[[FloatImage], dict[str, FloatImage]]
"""From an image to the result of every form, so that a network works once."""

DISCS: Final = ((3, 14), (5, 7), (7, 5), (10, 3))
"""Diameter in mm, contrast in HU."""
SIDE: Final = 32
"""Pixels, of the square around a disc that an observer sees."""
WATER_MM: Final = 300.0
WATER_SIDE: Final = 512
WATER_SPACING_MM: Final = 0.7
WATER_DOSE: Final = 0.25
"""25 HU in the middle, see ``simulation.low_dose.Scanner``."""
INSERT_HU: Final = (120.0, 30.0)
INSERT_MM: Final = 20.0
PROFILE_PER_MM: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Frequencies of the noise-reduction profile."""
INPUT: Final = "input"
REACH_MM: Final = 4.0
STEP_MM: Final = 0.1
PADDED_LENGTH: Final = 4096


@dataclass(frozen=True)
class Background:
    """Images without a disc, and the places where one may be put.

    Attributes
    ----------
    name : str
        For the table.
    images : sequence of float32 array, shape (H, W)
        HU, each with noise of its own.
    places : sequence of (int, int)
        First row and column of squares that do not overlap.
    spacing_mm : float
        Distance of pixels.
    """

    name: str
    images: Sequence[FloatImage]
    places: Sequence[Place]
    spacing_mm: float

    def signal(self, diameter_mm: float, contrast_hu: float) -> Array:
        """A disc as the scanner would show it, (SIDE, SIDE) HU."""
        return seen_by_scanner(contrast_hu * disc(SIDE, diameter_mm / self.spacing_mm), self.spacing_mm)

    def with_signal(self, signal: Array) -> Iterator[FloatImage]:
        """Every image with a signal at every place."""
        added = np.zeros(self.images[0].shape, np.float32)
        for row, column in self.places:
            added[row : row + SIDE, column : column + SIDE] += signal
        return (image + added for image in self.images)

    def cut(self, image: npt.NDArray[np.floating]) -> Array:
        """The squares at all places, (n, SIDE, SIDE)."""
        pieces = [image[row : row + SIDE, column : column + SIDE] for row, column in self.places]
        return np.stack(pieces).astype(np.float64)


def seen_by_scanner(sharp: Array, spacing_mm: float) -> Array:
    """Blur a square image as a standard kernel and the width of the detector's elements do."""
    frequency = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(len(sharp), spacing_mm)]))
    scanner = Scanner()
    kernel = 0.5 + 0.5 * np.cos(np.pi * np.minimum(frequency / scanner.kernel_cutoff, 1))
    return np.asarray(np.fft.ifft2(np.fft.fft2(sharp) * kernel * np.sinc(frequency * scanner.detector_pitch)).real)


def water(draws: int) -> Background:
    """A cylinder of 300 mm of water at a quarter of the dose; truth is flat."""
    hu = _cylinder()
    images = [hu + water_noise(draw) for draw in range(draws)]
    return Background("water, 25 HU", images, places_inside(hu > -500, SIDE), WATER_SPACING_MM)


def water_noise(draw: int) -> FloatImage:
    """Noise of the cylinder."""
    return low_dose_noise(_cylinder(), WATER_SPACING_MM, WATER_DOSE, slice_generator(draw, "water"))


def _cylinder() -> FloatImage:
    return np.where(_radius_mm(0, 0) < WATER_MM / 2, np.float32(0), np.float32(-1000)).astype(np.float32)


def _radius_mm(row_mm: float, column_mm: float) -> Array:
    at = (np.arange(WATER_SIDE) - (WATER_SIDE - 1) / 2) * WATER_SPACING_MM
    return np.asarray(np.hypot(at[:, None] - row_mm, at - column_mm))


def places_inside(region: npt.NDArray[np.bool_], margin: int) -> list[Place]:
    """Squares side by side that lie, with a margin in pixels, inside a region."""
    return [
        (row, column)
        for row in range(margin, region.shape[0] - SIDE - margin + 1, SIDE)
        for column in range(margin, region.shape[1] - SIDE - margin + 1, SIDE)
        if region[row - margin : row + SIDE + margin, column - margin : column + SIDE + margin].all()
    ]


@dataclass(frozen=True)
class Seen:
    """What observers see of one disc in one kind of image.

    Attributes
    ----------
    contrast_hu : float
        Mean inside the disc, with less without.
    hotelling, non_prewhitening : float
        d'.
    """

    contrast_hu: float
    hotelling: float
    non_prewhitening: float


def observe(background: Background, diameter_mm: float, with_disc: Array, without: Array) -> Seen:
    """Let the observers look at squares with and without a disc, (n, SIDE, SIDE) each, of the same noise."""
    return seen_difference(diameter_mm / background.spacing_mm, with_disc, without)


def seen_difference(diameter: float, with_disc: Array, without: Array) -> Seen:
    """The same, for a disc of so many pixels."""
    difference = (with_disc - without).mean(axis=0)
    noise = np.concatenate([without, with_disc - difference])
    return Seen(
        float(np.average(difference, weights=disc(SIDE, diameter))),
        channelised_hotelling(difference, noise, laguerre_gauss(SIDE, diameter)),
        non_prewhitening(difference, noise),
    )


def detection(background: Background, denoise: Denoise) -> list[dict[str, str | float]]:
    """A row for each form and disc: what is kept of the contrast, and how d' changes."""
    rows: list[dict[str, str | float]] = []
    flat = _squares(background, background.images, denoise)
    for diameter, contrast in DISCS:
        shown = background.with_signal(background.signal(diameter, contrast))
        with_disc = _squares(background, shown, denoise)
        seen = {form: observe(background, diameter, with_disc[form], flat[form]) for form in flat}
        rows += [_row(background, form, diameter, contrast, seen[INPUT], seen[form]) for form in flat if form != INPUT]
    return rows


def _squares(background: Background, images: Iterable[FloatImage], denoise: Denoise) -> dict[str, Array]:
    """The squares of all images in every form, and as they come in."""
    found: dict[str, list[Array]] = {}
    for image in images:
        for form, result in ({INPUT: image} | denoise(image)).items():
            found.setdefault(form, []).append(background.cut(result))
    return {form: np.concatenate(pieces) for form, pieces in found.items()}


def _row(
    background: Background, name: str, diameter: float, contrast: float, before: Seen, after: Seen
) -> dict[str, str | float]:
    return {
        "background": background.name,
        "form": name,
        "disc": f"{diameter} mm, {contrast} HU",
        "contrast kept": after.contrast_hu / before.contrast_hu,
        "d' Hotelling before": before.hotelling,
        "d' Hotelling": after.hotelling / before.hotelling - 1,
        "d' NPW before": before.non_prewhitening,
        "d' NPW": after.non_prewhitening / before.non_prewhitening - 1,
        "dose reduction, Hotelling": dose_reduction(before.hotelling, after.hotelling),
        "dose reduction, NPW": dose_reduction(before.non_prewhitening, after.non_prewhitening),
    }


def dose_reduction(before: float, after: float) -> float:
    """Part of the dose that could be saved at equal d', whose square goes with the dose; below 0 where d' falls."""
    return 1 - (before / after) ** 2


@dataclass(frozen=True)
class Spectra:
    """Noise power and transfer of one method in water.

    Attributes
    ----------
    frequency : ndarray
        (k,), 1/mm.
    power : ndarray
        (k,), HU^2 mm^2.
    transfer : dict
        Contrast in HU of the edge to the transfer there, (k,).
    """

    frequency: Array
    power: Array
    transfer: dict[float, Array]

    @property
    def noise(self) -> float:
        """Standard deviation, HU times a constant."""
        return float(np.sqrt(np.sum(self.power * self.frequency)))

    @property
    def mean_frequency(self) -> float:
        """Mean frequency of the radial noise power, 1/mm."""
        return float(np.average(self.frequency, weights=self.power))

    def detectability(self, diameter_mm: float, contrast_hu: float) -> float:
        """d' by the field's formula: transfer at the edge of 120 HU, noise power of flat water."""
        fine = np.arange(0.0025, 2.0, 0.005)
        transfer = np.interp(fine, self.frequency, self.transfer[INSERT_HU[0]], right=0)
        power = np.interp(fine, self.frequency, self.power)
        return from_spectra(fine, transfer, power, diameter_mm, contrast_hu)


def water_spectra(denoise: Denoise, draws: int) -> dict[str, Spectra]:
    """Noise power of flat water, and the transfer at the edge of rods of 20 mm in it, of every form."""
    background = water(draws)
    noise = {
        form: noise_power(squares, WATER_SPACING_MM)
        for form, squares in _squares(background, background.images, denoise).items()
    }
    transfer = {hu: _rod_transfer(denoise, hu, draws) for hu in INSERT_HU}
    at = np.linspace(0, 0.5 / WATER_SPACING_MM, 200)
    return {
        form: Spectra(
            at,
            np.interp(at, found.frequencies, found.power),
            {hu: np.interp(at, *curves[form]) for hu, curves in transfer.items()},
        )
        for form, found in noise.items()
    }


def _rod_transfer(denoise: Denoise, contrast_hu: float, draws: int) -> dict[str, tuple[Array, Array]]:
    """Transfer at the edges of nine rods, from the mean of the draws, of every form; frequency in 1/mm."""
    centres = [(0.0, 0.0), *((70 * np.cos(angle), 70 * np.sin(angle)) for angle in np.arange(8) * np.pi / 4)]
    hu = _cylinder() + _rods(centres, contrast_hu)
    sums: dict[str, Array] = {}
    for draw in range(draws):
        image = (hu + water_noise(1000 + draw)).astype(np.float32)
        for form, result in ({INPUT: image} | denoise(image)).items():
            sums[form] = sums[form] + result if form in sums else result.astype(np.float64)
    distance = np.concatenate([(_radius_mm(*centre) - INSERT_MM / 2).ravel() for centre in centres])
    return {form: _edge_transfer(distance, np.tile(total.ravel(), len(centres))) for form, total in sums.items()}


def _edge_transfer(distance_mm: Array, values: Array) -> tuple[Array, Array]:
    """Frequency, 1/mm, and transfer of an edge from values by their distance to it."""
    ends = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    near = abs(distance_mm) < ends[-1]
    number = np.digitize(distance_mm[near], ends)
    total, count = np.bincount(number, values[near], len(ends) + 1), np.bincount(number, minlength=len(ends) + 1)
    spread = total[1:-1] / count[1:-1]
    transfer = abs(np.fft.rfft(np.diff(spread) * np.hanning(len(spread) - 1), PADDED_LENGTH))
    return np.fft.rfftfreq(PADDED_LENGTH, STEP_MM).astype(np.float64), np.asarray(transfer / transfer[0])


def _rods(centres: Sequence[tuple[float, float]], contrast_hu: float) -> FloatImage:
    """Rods as the scanner would show them, whole image, HU."""
    inside = [np.clip((INSERT_MM / 2 - _radius_mm(*each)) / WATER_SPACING_MM + 0.5, 0, 1) for each in centres]
    sharp = np.sum(inside, axis=0)
    return np.asarray(contrast_hu * seen_by_scanner(sharp, WATER_SPACING_MM), np.float32)
