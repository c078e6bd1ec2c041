"""``iscl-node assess``: what the node makes of a hospital's own phantom or patients, as HTML and CSV."""

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from iscl_node.assessment.anatomy import DiscsInAnatomy
from iscl_node.assessment.as_is import as_is
from iscl_node.assessment.cases import Case, find_cases
from iscl_node.assessment.detection import DISCS, SIDE, seen_by_scanner, seen_difference
from iscl_node.assessment.methods import FloatImage, NodeMethod, Strength
from iscl_node.assessment.pictures import Shown, draw_page
from iscl_node.assessment.tables import mean
from iscl_node.dicom.judging.series import median_of_known
from monai_bundle.scripts.evaluation.evaluation_tables import Row, write_csv
from monai_bundle.scripts.evaluation.noise_power import find_squares
from monai_bundle.scripts.evaluation.observers import disc
from monai_bundle.scripts.evaluation.task_transfer import FEWEST_EDGES, edge_spread, frequency_at, transfer

FEWEST_SQUARES: Final = 30
"""Squares of all slices together; with fewer, observers' d' would be chance."""
_DECIMALS: Final = 3
_PAGE: Final = """<!doctype html><meta charset="utf-8"><title>ISCL Node: assessment</title>
<style>body{{font:15px sans-serif;margin:2em}}table{{border-collapse:collapse}}td,th{{border:1px solid #999;
padding:.2em .5em;text-align:right}}td:first-child{{text-align:left}}img{{max-width:100%}}</style>
<h1>What the node makes of this folder</h1><p>Research software, not for diagnosis. {model}. A blank: too little to
measure on.</p><h2>Slices</h2>{slices}<h2>Faint discs in uniform tissue, all slices together</h2>{discs}
<p>d': channelised Hotelling and non-prewhitening observer, before and after; discs are added to the images.</p>
<img alt="pictures" src="data:image/png;base64,{picture}">
"""


def assess(folder: Path, target: Path, method: NodeMethod, strength: Strength, slices: int) -> int:
    """Measure the slices of every patient and kernel in a folder; write ``index.html`` and two CSV files.

    Parameters
    ----------
    folder, target : Path
        DICOM files in; tables and page out.
    method, strength : NodeMethod, Strength
        What is assessed.
    slices : int
        At most so many of each patient, folder and kernel, evenly spread.

    Returns
    -------
    int
        How many slices were measured.

    Raises
    ------
    ConfigurationError
        If there is no usable slice.
    """
    cases = list(find_cases(folder, (), slices))
    share = strength.of(
        [case.hu for case in cases], body_mm(cases), slice_mm=median_of_known(case.slice_mm for case in cases)
    )
    target.mkdir(parents=True, exist_ok=True)
    results = [method.prepare(case.hu)(share) for case in cases]
    rows = [_row(case, result, method, share) for case, result in zip(cases, results, strict=True)]
    discs = disc_rows(cases, method, share)
    write_csv(target / "slices.csv", rows)
    write_csv(target / "discs.csv", discs)
    shown = [Shown(c.name, c.hu, None, {f"strength {share:.2f}": r}) for c, r in zip(cases, results, strict=True)]
    draw_page(target / "pictures.png", shown)
    (target / "index.html").write_text(_page(method, share, rows, discs, target / "pictures.png"), encoding="utf-8")
    return len(cases)


def body_mm(cases: Sequence[Case]) -> float | None:
    """Median of the body's effective diameter, mm; None where it is in no slice."""
    return median_of_known(case.body_mm for case in cases)


def _row(case: Case, result: FloatImage, method: NodeMethod, share: float) -> Row:
    discs = DiscsInAnatomy(case)
    kept = discs.kept(method.prepare(case.hu + discs.added)(share) - result)
    return {
        "slice": case.name,
        "kernel": case.kernel,
        "thickness_mm": case.thickness_mm,
        "spacing_mm": case.spacing_mm,
        **as_is(case, result),
        **_edges(case, result),
        **kept,
    }


def _edges(case: Case, result: FloatImage) -> dict[str, float]:
    """Where the transfer at edges falls to 50 and 10 %, 1/mm; noise of a single image disturbs it."""
    found: dict[str, float] = {}
    for name, image in (("as is", case.hu), ("left", result)):
        curve = transfer(edge_spread(image, case.edges)) if len(case.edges) >= FEWEST_EDGES else None
        for percent in (50, 10):
            at = frequency_at(percent / 100, *curve) / case.spacing_mm if curve else math.nan
            found[f"TTF {percent} {name}"] = at
    return found


def disc_rows(cases: Sequence[Case], method: NodeMethod, share: float) -> list[Row]:
    """A row for each disc: contrast kept, and d' before and after, from the squares of all slices of one pixel size."""
    same = [case for case in cases if case.spacing_mm == cases[0].spacing_mm]
    places = [_places(case) for case in same]
    rows: list[Row] = []
    for diameter, contrast in DISCS:
        row: Row = {"diameter_mm": diameter, "contrast_hu": contrast, "squares": sum(map(len, places))}
        names = ("contrast kept", "d' Hotelling as is", "d' Hotelling left", "d' NPW as is", "d' NPW left")
        known = dict.fromkeys(names, math.nan)
        if int(row["squares"]) >= FEWEST_SQUARES:
            known = _seen(same, places, method, share, (diameter, contrast))
        rows.append({**row, **known})
    return rows


def _places(case: Case) -> list[tuple[slice, slice]]:
    """Squares of uniform tissue that do not overlap."""
    return [each for each in find_squares(case.hu, SIDE) if each[0].start % SIDE == 0 and each[1].start % SIDE == 0]


def _seen(
    cases: Sequence[Case],
    places: Sequence[Sequence[tuple[slice, slice]]],
    method: NodeMethod,
    share: float,
    kind: tuple[float, float],
) -> dict[str, float]:
    spacing = cases[0].spacing_mm
    signal = seen_by_scanner(kind[1] * disc(SIDE, kind[0] / spacing), spacing)
    cut: dict[str, list[FloatImage]] = {"as is": [], "as is, disc": [], "left": [], "left, disc": []}
    for case, squares in zip(cases, places, strict=True):
        shown = case.hu.copy()
        for square in squares:
            shown[square] += signal.astype(np.float32)
        left = [method.prepare(image)(share) for image in (case.hu, shown)]
        for name, flat, with_disc in (("as is", case.hu, shown), ("left", left[0], left[1])):
            # Each less its own mean, signal and noise alike: one organ is denser than the next.
            cut[name] += [flat[square] - flat[square].mean() for square in squares]
            cut[f"{name}, disc"] += [with_disc[square] - with_disc[square].mean() for square in squares]
    stacked = {name: np.stack(pieces).astype(np.float64) for name, pieces in cut.items()}
    before, after = (seen_difference(kind[0] / spacing, stacked[f"{n}, disc"], stacked[n]) for n in ("as is", "left"))
    return {
        "contrast kept": after.contrast_hu / before.contrast_hu,
        "d' Hotelling as is": before.hotelling,
        "d' Hotelling left": after.hotelling,
        "d' NPW as is": before.non_prewhitening,
        "d' NPW left": after.non_prewhitening,
    }


def _page(method: NodeMethod, share: float, rows: Sequence[Row], discs: Sequence[Row], picture: Path) -> str:
    model = method.denoiser.model
    means: Row = {key: (mean(rows, key) if isinstance(value, float) else "") for key, value in rows[0].items()}
    return _PAGE.format(
        model=html.escape(f"{model.name} {model.version}, strength {share:.2f}"),
        slices=_table([*rows, {**means, "slice": "mean"}]),
        discs=_table(discs),
        picture=base64.b64encode(picture.read_bytes()).decode(),
    )


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    lines = ("".join(f"<td>{html.escape(_cell(value))}</td>" for value in row.values()) for row in rows)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{round(value, _DECIMALS):g}"
