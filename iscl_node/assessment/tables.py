"""The gate's tables in Markdown."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from iscl_node.assessment.cases import BINS, DEEPEST_MM, DEPTHS_MM, WINDOW
from iscl_node.assessment.detection import DISCS, INSERT_HU, PROFILE_PER_MM
from iscl_node.dicom.judging.suitability import is_sharp
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
    f"noise power at {' / '.join(f'{each:g}' for each in PROFILE_PER_MM)} per mm, dB",
)
_BODY: Final = (
    *("form, s", "dose", f"removed {' / '.join(f'{a} to {b} mm' for a, b in pairwise(DEPTHS_MM[:-1]))}"),
    *("deeper, %", f"d' NPW of discs of {_DISCS} mm in anatomy, %"),
)
_GROUPS: Final = (
    *("slices", "number", "gain (worst), dB", "share of ceiling, %", "removed, %", "NPS mean, %", "TTF 50; 10 %"),
    "bias in; beyond window, HU",
)
_TOLD_APART: Final = ("form, s", "round or spiculated, d' prewhitening; NPW, %", "one or two, the same")
_STACK: Final = (
    *("stack", "slices", "correlation with the next slice", "mean frequency along z, 1/mm"),
    "flicker: local mean of what was taken, from slice to slice, HU",
)
GROUPS: Final[dict[str, Callable[[Row], bool]]] = {
    "pixels below 0.6 mm": lambda row: float(row["spacing_mm"]) < 0.6,
    "0.6 to 0.8 mm": lambda row: 0.6 <= float(row["spacing_mm"]) < 0.8,
    "0.8 mm and more": lambda row: float(row["spacing_mm"]) >= 0.8,
    "thinner than 2 mm": lambda row: float(row["thickness_mm"]) < 2,
    "2 to 4 mm": lambda row: 2 <= float(row["thickness_mm"]) < 4,
    "4 mm and more": lambda row: float(row["thickness_mm"]) >= 4,
    "soft kernels": lambda row: not is_sharp(str(row["kernel"])),
    "sharp kernels": lambda row: is_sharp(str(row["kernel"])),
    "body below 220 mm (head, child)": lambda row: float(row["body_mm"]) < 220,
    "220 to 300 mm": lambda row: 220 <= float(row["body_mm"]) < 300,
    "300 mm and more": lambda row: float(row["body_mm"]) >= 300,
    "body not whole": lambda row: math.isnan(float(row["body_mm"])),
}
"""The groups of slices that have rows of their own; a slice is in several."""


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
        titles, [_slice_line(found.get((row["patient"], row["slice"])), row) for row in as_came]
    )


def _slice_line(row: Row | None, real: Row) -> list[str]:
    if row is None:
        unknown = dict.fromkeys(("reference_hu", "added_hu", "gain", "ceiling", "removed"), math.nan)
        row = {**real, **unknown}
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
        " ".join(f"{float(row[f'power at {each:g}']):+.1f}" for each in PROFILE_PER_MM),
    ]


def body_table(rows: Sequence[Row]) -> str:
    """A line for each form, strength and dose: noise by depth, and how discs in anatomy are seen."""
    lines = []
    for (form, strength), part in _forms(rows).items():
        for dose, some in grouped(part, "dose").items():
            depths = [mean(some, f"removed, {name}") for name in _depths()]
            seen = (f"{100 * mean(some, key):+.0f}" for key in (f"d' NPW, {d} mm in anatomy" for d, _ in DISCS))
            removed = " ".join(map(percent, depths[:-1]))
            lines.append([f"{form}, {strength}", str(dose), removed, percent(depths[-1]), " ".join(seen)])
    return markdown(_BODY, lines)


def _depths() -> Iterator[str]:
    for low, high in pairwise(DEPTHS_MM):
        yield f"{low} to {high} mm deep" if high < DEEPEST_MM else f"from {low} mm"


def _forms(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((str(row["form"]), str(row["strength"])), []).append(row)
    return found


def groups_table(rows: Sequence[Row], dose: float, form: str, strength: str) -> str:
    """A line for each kind of slice, at one dose, form and strength; what there is none of is said, too."""
    wanted = [row for row in rows if (row["dose"], row["form"], row["strength"]) == (dose, form, strength)]
    lines = [_group_line(name, [row for row in wanted if holds(row)]) for name, holds in GROUPS.items()]
    return f"{form}, {strength}, dose {dose:g}\n\n" + markdown(_GROUPS, lines)


def _group_line(name: str, part: Sequence[Row]) -> list[str]:
    if not part:
        return [name, "none", *[""] * (len(_GROUPS) - 2)]
    counted = [row for row in part if not float(row["ceiling"]) < LEAST_CEILING_DB]
    gains = [float(row["gain"]) for row in counted] or [math.nan]
    inside, beyond = largest_bias(part)
    return [
        *(name, f"{len(counted)} of {len(part)}", f"{np.mean(gains):+.2f} ({min(gains):+.2f})"),
        *(percent(mean(counted, "share")), percent(mean(part, "removed")), f"{100 * mean(part, 'NPS'):+.0f}"),
        *(f"{mean(part, 'TTF 50'):.3f}; {mean(part, 'TTF 10'):.3f}", f"{inside:.1f}; {beyond:.1f}"),
    ]


def characterisation_table(rows: Sequence[Row]) -> str:
    """A line for each form, tasks side by side."""
    keys = "d' prewhitening", "d' NPW"
    lines = [
        [form, *("; ".join(f"{100 * float(row[key]):+.0f}" for key in keys) for row in part)]
        for form, part in grouped(rows, "form").items()
    ]
    return markdown(_TOLD_APART, lines)


def stack_table(rows: Sequence[Row]) -> str:
    """A line for each stack and form."""
    return markdown(
        _STACK,
        [
            [
                f"{row['stack']}, {row['form']}",
                str(row["slices"]),
                *(
                    f"{float(row[f'{key} as is']):.2f} to {float(row[f'{key} left']):.2f}"
                    for key in ("z correlation", "z mean frequency")
                ),
                f"{float(row['flicker']):.2f}",
            ]
            for row in rows
        ],
    )


def phantom_table(rows: Sequence[Row]) -> str:
    """A line for each phantom and disc."""
    titles = "phantom", "disc", "squares", "contrast kept", "d' Hotelling; NPW, %"
    lines = [
        [
            str(row["phantom"]),
            f"{row['diameter_mm']} mm, {row['contrast_hu']} HU",
            str(row["squares"]),
            f"{float(row['contrast kept']):.2f}",
            "; ".join(f"{100 * _change(row, name):+.0f}" for name in ("d' Hotelling", "d' NPW")),
        ]
        for row in rows
    ]
    return markdown(titles, lines)


def _change(row: Row, name: str) -> float:
    return float(row[f"{name} left"]) / float(row[f"{name} as is"]) - 1
