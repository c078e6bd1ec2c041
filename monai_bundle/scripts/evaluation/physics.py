"""Part of an evaluation that physicists look at: noise power and sharpness of every form and of the normal dose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .evaluation import EvaluatedPair
from .evaluation_tables import Column, Row, grouped, means_table, write_csv
from .figures import Curve, draw_curves
from .noise_power import FEWEST_SQUARES, NoisePower, find_squares, noise_power
from .task_transfer import FEWEST_EDGES, Edges, edge_spread, find_edges, frequency_at, transfer

NORMAL = "normal dose"
COLUMNS = (
    Column("noise_hu", "noise, HU", 2),
    Column("nps_peak", "NPS peak", 3),
    Column("nps_mean", "NPS mean", 3),
    Column("ttf50", "TTF 50 %", 3),
    Column("ttf10", "TTF 10 %", 3),
    Column("ttf50_ratio", "TTF 50 %, of normal dose", 3),
    Column("ttf10_ratio", "TTF 10 %, of normal dose", 3),
)
NOTES = """
Mean over the slices that hold enough of what is measured, standard deviation in brackets; frequencies in {unit}. Noise
and its power spectrum (NPS): squares of 24 pixels of uniform tissue, less a polynomial of second order, in each form
itself; peak and mean frequency of the radial average. TTF: where the task transfer function of edges of at least 80 HU
inside the window falls to 50 and 10 %. Draws of the noise of a slice (folders `seedN`) are averaged: spectra for the
NPS, images for the TTF. With one draw the noise disturbs the TTF.
"""


@dataclass
class MeasuredSlice:
    """What is known of one slice, summed over the draws of its noise.

    Averages suffice: the edge spread of a mean image is the mean of the edge spreads.
    """

    patient: str
    spacing: float
    unit: str
    squares: Sequence[tuple[slice, slice]]
    edges: Edges
    draws: int = 0
    forms: Sequence[str] = ()
    power: dict[str, list[NoisePower]] = field(default_factory=dict)
    spread: dict[str, list[npt.NDArray[np.float64]]] = field(default_factory=dict)

    @classmethod
    def of(cls, pair: EvaluatedPair) -> "MeasuredSlice":
        """Find squares and edges in the normal dose."""
        known = math.isfinite(pair.spacing_mm)
        return cls(
            pair.patient,
            pair.spacing_mm if known else 1.0,
            "1/mm" if known else "1/pixel",
            find_squares(pair.normal),
            find_edges(pair.normal, pair.window),
        )

    def add(self, pair: EvaluatedPair) -> None:
        """Measure one draw."""
        self.draws += 1
        images = pair.forms | {NORMAL: pair.normal}
        self.forms = tuple(images)
        for form, image in images.items():
            if len(self.squares) >= FEWEST_SQUARES:
                pieces = np.stack([image[square] for square in self.squares])
                self.power.setdefault(form, []).append(noise_power(pieces, self.spacing))
            if len(self.edges) >= FEWEST_EDGES:
                self.spread.setdefault(form, []).append(edge_spread(image, self.edges))

    def spectra(self) -> dict[str, NoisePower]:
        """The mean spectrum of each form; empty with fewer than 4 squares."""
        return {form: NoisePower.mean_of(draws) for form, draws in self.power.items()}

    def transfers(self) -> dict[str, Curve]:
        """Frequencies and TTF of the mean image of each form; empty with fewer than 20 edges."""
        curves = {form: transfer(np.mean(draws, axis=0)) for form, draws in self.spread.items()}
        return {form: (frequencies / self.spacing, ttf) for form, (frequencies, ttf) in curves.items()}

    def rows(self, name: str) -> list[Row]:
        """One row for each form, NaN where too few squares or edges were found."""
        spectra, transfers = self.spectra(), self.transfers()
        fixed = {"name": name, "patient": self.patient, "draws": self.draws, "unit": self.unit}
        found = {"squares": len(self.squares), "edges": len(self.edges)}
        return [
            {**fixed, "form": form, **found, **_noise(spectra.get(form)), **_sharpness(transfers, form)}
            for form in self.forms
        ]


class NoiseAndSharpness:
    """``physics.csv``: a row for each slice and form, all draws together; ``noise_power.png``, ``task_transfer.png``.

    A figure is drawn where at least one slice holds enough of what it shows.
    """

    def __init__(self) -> None:
        self.slices: dict[str, MeasuredSlice] = {}

    def add(self, pair: EvaluatedPair) -> None:
        """Measure one draw of a slice."""
        if pair.slice_name not in self.slices:
            self.slices[pair.slice_name] = MeasuredSlice.of(pair)
        self.slices[pair.slice_name].add(pair)

    def write(self, folder: Path) -> str:
        """Write the rows and the figures; return the means for each unit of frequency."""
        rows = [row for name, measured in self.slices.items() for row in measured.rows(name)]
        write_csv(folder / "physics.csv", rows)
        sections = ["## Noise power and sharpness"]
        for unit, part in grouped(rows, "unit").items():
            sections.append(means_table(part, COLUMNS) + "\n" + NOTES.format(unit=unit))
        self._draw(folder)
        return "\n\n".join(sections)

    def _draw(self, folder: Path) -> None:
        unit = next(iter(self.slices.values())).unit  # of the first slice; others would need another axis
        measured = [each for each in self.slices.values() if each.unit == unit]
        power = [{form: (nps.frequencies, nps.power) for form, nps in each.spectra().items()} for each in measured]
        transfers = [each.transfers() for each in measured]
        frequency, area = f"frequency, {unit}", unit.removeprefix("1/") + "²"
        for name, curves, title, label in (
            ("noise_power", mean_curves(power), "Noise power spectrum in uniform tissue", f"NPS, HU² {area}"),
            ("task_transfer", mean_curves(transfers), "Task transfer function at edges", "TTF"),
        ):
            if curves:
                draw_curves(folder / f"{name}.png", curves, title, frequency, label)


def mean_curves(slices: Sequence[dict[str, Curve]], points: int = 100) -> dict[str, Curve]:
    """The mean curve of each form over the slices, on the frequencies that all of them reach."""
    forms: dict[str, list[Curve]] = {}
    for curves in slices:
        for form, curve in curves.items():
            forms.setdefault(form, []).append(curve)
    means = {}
    for form, curves in forms.items():
        x = np.linspace(max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves), points)
        means[form] = x, np.mean([np.interp(x, *curve) for curve in curves], axis=0)
    return means


def _noise(spectrum: NoisePower | None) -> dict[str, float]:
    keys = "noise_hu", "nps_peak", "nps_mean"
    if spectrum is None:
        return dict.fromkeys(keys, math.nan)
    return dict(
        zip(keys, (math.sqrt(spectrum.variance), spectrum.peak_frequency, spectrum.mean_frequency), strict=True)
    )


def _sharpness(transfers: dict[str, Curve], form: str) -> dict[str, float]:
    measures = {}
    for percent in (50, 10):
        at, normal = (
            frequency_at(percent / 100, *transfers[each]) if transfers else math.nan for each in (form, NORMAL)
        )
        measures |= {f"ttf{percent}": at, f"ttf{percent}_ratio": at / normal}
    return measures
