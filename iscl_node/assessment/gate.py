"""The gate: every method on every case and in water."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from iscl_node.assessment.anatomy import with_discs
from iscl_node.assessment.as_is import as_is
from iscl_node.assessment.cases import WINDOW, Case, LowDose, at_dose
from iscl_node.assessment.detection import (
    DISCS,
    INPUT,
    INSERT_HU,
    Denoise,
    Spectra,
    detection,
    dose_reduction,
    water,
    water_spectra,
)
from iscl_node.assessment.dose_figures import figures
from iscl_node.assessment.methods import CLASSICAL, BestOf, FloatImage, NodeMethod, Strength
from iscl_node.assessment.pictures import Shown, draw_page
from iscl_node.assessment.tables import detection_table, slices_table, summary, water_table
from monai_bundle.scripts.evaluation.evaluation_tables import Row, write_csv
from monai_bundle.scripts.evaluation.image_quality import psnr
from monai_bundle.scripts.evaluation.task_transfer import frequency_at

Say = Callable[[str], None]

SHOWN_FORMS: Final = 3
BEST: Final = "best for each"
"""The share that suits the noise of reference and low dose best, see ``Ceiling``; nobody could know it."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    doses : tuple of float
        Fractions of the normal dose.
    strengths : tuple of Strength
        How much of the noise is taken away.
    draws : int
        Of the noise, at least 2.
    classical : bool
        Also non-local means and total variation, each with its best parameter.
    """

    doses: tuple[float, ...]
    strengths: tuple[Strength, ...]
    draws: int
    classical: bool

    @property
    def middle_dose(self) -> float:
        """The dose that pictures and single slices are shown at."""
        return sorted(self.doses)[len(self.doses) // 2]


def measure(cases: Iterable[Case], methods: Sequence[NodeMethod], plan: Plan, target: Path, say: Say) -> str:
    """Measure everything, write the rows as CSV and the tables as Markdown; return the tables."""
    target.mkdir(parents=True, exist_ok=True)
    denoise = all_forms(methods, plan.strengths)
    say("water and discs")
    found = detection(water(plan.draws), denoise)
    spectra = water_rows(denoise, plan.draws)
    cases, album = list(cases), list[Shown]()
    rows = list(dose_rows(cases, methods, plan, say, album))
    real = [row for case in cases for row in real_rows(case, methods, plan)]
    for name, part in (("slices", rows), ("as_is", real), ("detection", found), ("water", spectra)):
        write_csv(target / f"{name}.csv", part)
    draw_page(target / "pictures.png", album)
    single = slices_table(rows, real, plan.middle_dose, methods[0].name, plan.strengths[0].name)
    text = "\n\n".join([summary(rows), detection_table(found), water_table(spectra), single]) + "\n"
    (target / "quality.md").write_text(text)
    return text


def dose_rows(
    cases: Iterable[Case], methods: Sequence[NodeMethod], plan: Plan, say: Say, album: list[Shown] | None = None
) -> Iterator[Row]:
    """A row for each case, dose, form and strength; pictures of the middle dose go into an album."""
    for case in cases:
        for dose in plan.doses:
            low = at_dose(case, dose, plan.draws)
            known = _known(low)
            say(f"{case.patient} {case.name} {case.kernel}, dose {dose:g}: added {known['added_hu']:.1f} HU")
            pictures: dict[str, FloatImage] = {}
            for form, strength, share, results, kept in _results(low, methods, plan):
                row = {**known, "form": form, "strength": strength, "share removed": share}
                pictures[f"{form}, {strength} ({share:.2f})"] = results[0]
                yield {**row, **figures(low, results), **kept}
            if album is not None and dose == plan.middle_dose:
                few = dict(islice(pictures.items(), SHOWN_FORMS))
                album.append(Shown(f"{case.patient}, {case.kernel}, dose {dose:g}", low.images[0], case.hu, few))


def real_rows(case: Case, methods: Sequence[NodeMethod], plan: Plan) -> Iterator[Row]:
    """A row for each form and strength of what is made of a slice as it came."""
    for method in methods:
        prepared = method.prepare(case.hu)
        for strength in plan.strengths:
            share = strength.of([case.hu], case.body_mm)
            row = {**_named(case), "form": method.name, "strength": strength.name, "share removed": share}
            yield {**row, **as_is(case, prepared(share))}


def _known(low: LowDose) -> Row:
    limit = low.ceiling
    return {
        **_named(low.case),
        "reference_hu": limit.reference_hu if limit else math.nan,
        "added_hu": limit.added_hu if limit else math.nan,
        "best strength": limit.strength if limit else math.nan,
        "dose": low.dose,
    }


def _named(case: Case) -> Row:
    return {
        "patient": case.patient,
        "slice": case.name,
        "kernel": case.kernel,
        "thickness_mm": case.thickness_mm,
        "spacing_mm": case.spacing_mm,
        "tube_current_ma": case.tube_current_ma,
    }


def _results(
    low: LowDose, methods: Sequence[NodeMethod], plan: Plan
) -> Iterator[tuple[str, str, float, Sequence[FloatImage], dict[str, float]]]:
    """Form, strength in words and as a share, the results of all draws, and what is kept of discs."""
    discs, shown = with_discs(low)
    shares = {strength.name: strength.of(low.images[:1], low.case.body_mm) for strength in plan.strengths}
    if low.ceiling:
        shares[BEST] = low.ceiling.strength
    for method in methods:
        prepared, prepared_discs = [method.prepare(image) for image in low.images], method.prepare(shown)
        for name, share in shares.items():
            results = [result(share) for result in prepared]
            yield method.name, name, share, results, discs.kept(prepared_discs(share) - results[0])
    for classical in CLASSICAL if plan.classical else ():
        unknown = {key: math.nan for key in discs.kept(shown)}
        yield classical.name, "", 1.0, _best(low, classical), unknown


def _best(low: LowDose, method: BestOf) -> Sequence[FloatImage]:
    """The best parameter is found on the first draw, in the middle of the image, and taken for all."""
    noise = float(np.std(low.noises[0][low.case.body]))
    rows, columns = (slice(side // 4, 3 * side // 4) for side in low.case.hu.shape)
    part, normal = low.images[0][rows, columns], low.case.hu[rows, columns]
    factor = max(method.factors, key=lambda each: psnr(method.denoise(part, each * noise), normal, WINDOW))
    return [method.denoise(image, factor * noise) for image in low.images]


def all_forms(methods: Sequence[NodeMethod], strengths: Sequence[Strength]) -> Denoise:
    """Every method at every strength, by the name that tables have."""

    def denoise(image: FloatImage) -> dict[str, FloatImage]:
        prepared = {method.name: method.prepare(image) for method in methods}
        shares = {each.name: each.of([image]) for each in strengths}
        return {f"{form}, {name}": prepared[form](share) for form in prepared for name, share in shares.items()}

    return denoise


def water_rows(denoise: Denoise, draws: int) -> list[Row]:
    """A row for each form: noise, its spectrum and the transfer in water, and dose reduction by the field's formula."""
    spectra = water_spectra(denoise, draws)
    before = spectra.pop(INPUT)
    return [{"form": form, **_against(before, after)} for form, after in spectra.items()]


def _against(before: Spectra, after: Spectra) -> dict[str, float]:
    row = {"noise": after.noise / before.noise - 1, "NPS": after.mean_frequency / before.mean_frequency - 1}
    for hu in INSERT_HU:
        for percent in (50, 10):
            reached = [frequency_at(percent / 100, each.frequency, each.transfer[hu]) for each in (before, after)]
            row[f"TTF {percent}, {hu:g} HU"] = reached[1] / reached[0]
    for diameter, contrast in DISCS:
        index = [each.detectability(diameter, contrast) for each in (before, after)]
        row[f"dose reduction {diameter} mm"] = dose_reduction(*index)
    return row
