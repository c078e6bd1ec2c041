"""The gate: every method on every case and in water."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from iscl_node.assessment.anatomy import DiscsInAnatomy, with_discs
from iscl_node.assessment.as_is import as_is
from iscl_node.assessment.cases import WINDOW, Case, LowDose, at_dose
from iscl_node.assessment.characterisation import characterisation
from iscl_node.assessment.detection import (
    DISCS,
    INPUT,
    INSERT_HU,
    PROFILE_PER_MM,
    Denoise,
    Spectra,
    detection,
    dose_reduction,
    water,
    water_spectra,
)
from iscl_node.assessment.dose_figures import figures
from iscl_node.assessment.methods import BestOf, FloatImage, NodeMethod, Strength, classical_methods
from iscl_node.assessment.own_series import disc_rows
from iscl_node.assessment.pictures import Shown, draw_page
from iscl_node.assessment.stack import Stack, draw_stack, stack_row
from iscl_node.assessment.tables import (
    body_table,
    characterisation_table,
    detection_table,
    groups_table,
    phantom_table,
    slices_table,
    stack_table,
    summary,
    water_table,
)
from iscl_node.dicom.judging.series import sample
from monai_bundle.scripts.evaluation.evaluation_tables import Row, write_csv
from monai_bundle.scripts.evaluation.image_quality import psnr
from monai_bundle.scripts.evaluation.task_transfer import frequency_at

Say = Callable[[str], None]

SHOWN_FORMS: Final = 3
BEST: Final = "best for each"
"""The share that suits the noise of reference and low dose best, see ``Ceiling``; unknown in use."""


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


@dataclass(frozen=True)
class Real:
    """What is measured as it came, without a simulated dose.

    Attributes
    ----------
    low_dose : tuple of Case
        Slices of a low tube current.
    phantoms : dict
        Slices of uniform phantoms, by their names.
    stacks : tuple of Stack
        Neighbouring slices.
    """

    low_dose: tuple[Case, ...] = ()
    phantoms: Mapping[str, Sequence[Case]] = field(default_factory=dict)
    stacks: tuple[Stack, ...] = ()


def measure(
    cases: Iterable[Case], methods: Sequence[NodeMethod], plan: Plan, target: Path, say: Say, real_ones: Real = Real()
) -> str:
    """Measure everything, write the rows as CSV and the tables as Markdown; return the tables."""
    target.mkdir(parents=True, exist_ok=True)
    denoise = all_forms(methods, plan.strengths)
    say("water and discs")
    found = detection(water(plan.draws), denoise)
    apart = list(characterisation(water(plan.draws), denoise))
    spectra = water_rows(denoise, plan.draws)
    cases, album = list(cases), list[Shown]()
    rows = list(dose_rows(cases, methods, plan, say, album))
    real = [row for case in (*cases, *real_ones.low_dose) for row in real_rows(case, methods, plan)]
    say("phantoms and stacks")
    discs = phantom_rows(real_ones, methods[0], plan.strengths[0])
    stacks = stack_rows(real_ones, methods[0], plan.strengths[0], target)
    parts: dict[str, Sequence[Row]] = {
        "slices": rows,
        "as_is": real,
        "detection": found,
        "water": spectra,
        "characterisation": apart,
    }
    for name, part in (parts | {"phantoms": discs, "stacks": stacks}).items():
        if part:
            write_csv(target / f"{name}.csv", part)
    draw_page(target / "pictures.png", album)
    shown = plan.middle_dose, methods[0].name, plan.strengths[0].name
    tables = [summary(rows), body_table(rows), groups_table(rows, *shown), detection_table(found)]
    tables += [characterisation_table(apart), water_table(spectra), phantom_table(discs), stack_table(stacks)]
    text = "\n\n".join([*tables, slices_table(rows, real, *shown)]) + "\n"
    (target / "quality.md").write_text(text)
    return text


def phantom_rows(real: Real, method: NodeMethod, strength: Strength) -> list[Row]:
    """A row for each phantom and disc, put into the real noise of its uniform parts."""
    rows: list[Row] = []
    for name, cases in real.phantoms.items():
        share = strength.of([case.hu for case in cases], cases[0].body_mm, slice_mm=cases[0].slice_mm)
        rows += [
            {"phantom": f"{name}, {strength.name} ({share:.2f})", **row} for row in disc_rows(cases, method, share)
        ]
    return rows


def stack_rows(real: Real, method: NodeMethod, strength: Strength, target: Path) -> list[Row]:
    """A row for each stack, with its picture from the front and from the side."""
    rows: list[Row] = []
    for number, stack in enumerate(real.stacks):
        share = strength.of(sample(list(stack.hu)), stack.body_mm, slice_mm=stack.slice_mm)
        result = np.stack([method.prepare(image)(share) for image in stack.hu])
        rows.append({**stack_row(stack, result), "form": f"{strength.name} ({share:.2f})"})
        draw_stack(target / f"stack{number}.png", stack, {f"{method.name}, {strength.name}": result})
    return rows


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
            share = strength.of([case.hu], case.body_mm, case.kernel, case.slice_mm)
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
        "body_mm": math.nan if case.body_mm is None else case.body_mm,
    }


def _results(
    low: LowDose, methods: Sequence[NodeMethod], plan: Plan
) -> Iterator[tuple[str, str, float, Sequence[FloatImage], dict[str, float]]]:
    """Form, strength in words and as a share, the results of all draws, and what is kept of discs."""
    discs, shown = with_discs(low)
    known = low.case.body_mm, low.case.kernel, low.case.slice_mm
    shares = {strength.name: strength.of(low.images[:1], *known) for strength in plan.strengths}
    if low.ceiling:
        shares[BEST] = low.ceiling.strength
    for method in methods:
        prepared, prepared_discs = [method.prepare(image) for image in low.images], method.prepare(shown)
        for name, share in shares.items():
            results = [result(share) for result in prepared]
            yield method.name, name, share, results, discs_kept(discs, low, prepared_discs(share) - results[0], results)
    for classical in classical_methods() if plan.classical else ():
        unknown = {key: math.nan for key in discs_kept(discs, low, shown, low.images)}
        yield classical.name, "", 1.0, _best(low, classical), unknown


def discs_kept(
    discs: DiscsInAnatomy, low: LowDose, change: FloatImage, results: Sequence[FloatImage]
) -> dict[str, float]:
    """What is kept of the contrast of discs in anatomy, and the change of d'."""
    before, after = discs.seen(discs.added, low.images), discs.seen(change, results)
    return discs.kept(change) | {f"{key} in anatomy": after[key] / before[key] - 1 for key in before}


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
    for at in PROFILE_PER_MM:
        power = [float(np.interp(at, each.frequency, each.power)) for each in (before, after)]
        row[f"power at {at:g}"] = 10 * math.log10(max(power[1], 1e-12) / power[0])
    for diameter, contrast in DISCS:
        index = [each.detectability(diameter, contrast) for each in (before, after)]
        row[f"dose reduction {diameter} mm"] = dose_reduction(*index)
    return row
