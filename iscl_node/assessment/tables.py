"""The gate's tables in Markdown."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from iscl_node.assessment.cases import BINS, WINDOW
from iscl_node.assessment.detection import DISCS, INSERT_HU
from monai_bundle.scripts.evaluation.evaluation_tables import Row, grouped

LEAST_CEILING_DB: Final = 2.0
"""A reference that allows less is too noisy to measure a gain against."""

_DISCS: Final = " / ".join(str(diameter) for diameter, _ in DISCS)
_SUMMARY: Final = (
    *("dose", "form", "s", "slices", "gain (worst), dB", "SSIM", "in tissue, dB", "share of ceiling, %"),
    *("noise removed, %", "in anatomy, %", "NPS mean, %", "TTF 50; 10 %", "bias in; beyond window, HU", "specks, ‰"),
    f"discs of {_DISCS} mm in anatomy: contrast kept",
)
_DETECTION: Final = (
    *("background", "form, s", f"contrast kept, discs of {_DISCS} mm", "d' Hotelling, %", "d' NPW, %"),
    *("dose reduction, Hotelling, %", "NPW, %"),
)
_SLICES: Final = (
    *(
        "slice",
        "kernel, thickness and spacing in mm, mA",
        "noise, HU",
        "gain of ceiling at dose {dose:g}, dB",
        "removed, %",
    ),
    *("as it came: noise (strength), HU", "NPS mean, %", "coarse noise, %", "kurtosis", "taken at edges, ratio"),
)
_WATER: Final = (
    *("form, s", "noise, %", "NPS mean, %"),
    *(f"TTF 50; 10 % at {hu:g} HU" for hu in INSERT_HU),
    f"dose reduction by spectra, discs of {_DISCS} mm, %",
)


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left."""
    rule = "|---|" + "--:|" * (len(titles) - 1)
    return "\n".join(["| " + " | ".join(titles) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def summary(rows: Sequence[Row]) -> str:
    """A line for each dose, form and strength."""
    groups: dict[tuple[float, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((-float(row["dose"]), str(row["form"]), str(row["strength"])), []).append(row)
    return markdown(
        _SUMMARY, [_summary_line(-dose, form, s, groups[dose, form, s]) for dose, form, s in sorted(groups)]
    )


def _summary_line(dose: float, form: str, strength: str, part: Sequence[Row]) -> list[str]:
    counted = [row for row in part if not float(row["ceiling"]) < LEAST_CEILING_DB]
    gains = [float(row["gain"]) for row in counted] or [math.nan]
    inside, beyond = largest_bias(part)
    return [
        *(f"{dose:g}", form, f"{strength} ({mean(part, 'share removed'):.2f})", f"{len(counted)} of {len(part)}"),
        f"{np.mean(gains):+.2f} ({min(gains):+.2f})",
        f"{mean(counted, 'ssim'):+.3f}",
        f"{mean(counted, 'tissue gain'):+.2f}",
        percent(mean(counted, "share")),
        percent(mean(part, "removed")),
        percent(mean(part, "removed in anatomy")),
        f"{100 * mean(part, 'NPS'):+.0f}",
        f"{mean(part, 'TTF 50'):.3f}; {mean(part, 'TTF 10'):.3f}",
        f"{inside:.1f}; {beyond:.1f}",
        f"{mean(part, 'specks'):.2f}",
        " ".join(f"{mean(part, f'contrast kept, {diameter} mm'):.2f}" for diameter, _ in DISCS),
    ]


def percent(part: float) -> str:
    """A part as percent."""
    return f"{100 * part:.0f}"


def mean(rows: Sequence[Row], key: str) -> float:
    """Mean of what is known, nan if nothing is."""
    values = [float(row[key]) for row in rows if math.isfinite(float(row[key]))]
    return float(np.mean(values)) if values else math.nan


def largest_bias(part: Sequence[Row]) -> tuple[float, float]:
    """Largest mean bias of a bin of HU in the window, and beyond it."""
    found = {ends: abs(mean(part, f"bias {ends[0]} to {ends[1]}")) for ends in pairwise(BINS)}
    known = {ends: value for ends, value in found.items() if not math.isnan(value)}
    inside = {ends for ends in known if ends[0] >= WINDOW[0] and ends[1] <= WINDOW[1]}
    first, second = (max((known[ends] for ends in some), default=math.nan) for some in (inside, known.keys() - inside))
    return first, second


def detection_table(rows: Sequence[Row]) -> str:
    """A line for each background and form, discs side by side."""
    lines = [
        [background, form, *_of_discs(part)]
        for background, some in grouped(rows, "background").items()
        for form, part in grouped(some, "form").items()
    ]
    return markdown(_DETECTION, lines)


def _of_discs(part: Sequence[Row]) -> list[str]:
    return [
        " ".join(f"{float(row['contrast kept']):.2f}" for row in part),
        *(" ".join(f"{100 * float(row[key]):+.0f}" for row in part) for key in ("d' Hotelling", "d' NPW")),
        *(" ".join(percent(float(row[f"dose reduction, {key}"])) for row in part) for key in ("Hotelling", "NPW")),
    ]


def slices_table(rows: Sequence[Row], real: Sequence[Row], dose: float, form: str, strength: str) -> str:
    """A line for each slice, at one dose, form and strength; with what is made of it as it came."""
    wanted = [row for row in rows if (row["dose"], row["form"], row["strength"]) == (dose, form, strength)]
    found = {(row["patient"], row["slice"]): row for row in wanted}
    as_came = [row for row in real if (row["form"], row["strength"]) == (form, strength)]
    titles = [title.format(dose=dose) for title in _SLICES]
    return f"{form}, {strength}\n\n" + markdown(
        titles, [_slice_line(found[row["patient"], row["slice"]], row) for row in as_came]
    )


def _slice_line(row: Row, real: Row) -> list[str]:
    return [
        f"{row['patient']} {row['slice']}",
        f"{row['kernel']}, {row['thickness_mm']:g}, {float(row['spacing_mm']):.2f}, {row['tube_current_ma']:g}",
        f"{float(row['reference_hu']):.0f} + {float(row['added_hu']):.0f}",
        f"{float(row['gain']):+.2f} of {float(row['ceiling']):.1f}",
        percent(float(row["removed"])),
        f"{float(real['noise as is']):.1f} to {float(real['noise left']):.1f} ({float(real['share removed']):.2f})",
        f"{100 * (float(real['NPS left']) / float(real['NPS as is']) - 1):+.0f}",
        f"{percent(float(real['blotches as is']))} to {percent(float(real['blotches left']))}",
        f"{float(real['kurtosis left']):+.2f}",
        f"{float(real['structure taken']):.2f}",
    ]


def water_table(rows: Sequence[Row]) -> str:
    """A line for each form."""
    return markdown(_WATER, [_water_line(row) for row in rows])


def _water_line(row: Row) -> list[str]:
    return [
        str(row["form"]),
        *(f"{100 * float(row[key]):+.0f}" for key in ("noise", "NPS")),
        *(f"{float(row[f'TTF 50, {hu:g} HU']):.3f}; {float(row[f'TTF 10, {hu:g} HU']):.3f}" for hu in INSERT_HU),
        " ".join(percent(float(row[f"dose reduction {diameter} mm"])) for diameter, _ in DISCS),
    ]
