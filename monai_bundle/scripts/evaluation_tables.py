"""The tables of an evaluation: rows as CSV, their means as Markdown."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

METRICS = ("psnr_db", "ssim", "rmse_hu", "bias_hu", "noise_hu")
TITLES = {
    "psnr_db": "PSNR, dB",
    "ssim": "SSIM",
    "rmse_hu": "RMSE, HU",
    "bias_hu": "bias, HU",
    "noise_hu": "noise, HU",
}
DECIMALS = {"psnr_db": 2, "ssim": 4, "rmse_hu": 2, "bias_hu": 2, "noise_hu": 2}
ABSOLUTE_BIAS = "absolute bias, HU"
Row = dict[str, str | float]

NOTES = """\
Means over the slices, standard deviation in brackets. PSNR and SSIM: clipped to the HU window and scaled to
[0, 255]; identical images have an infinite PSNR. RMSE: where the normal dose lies in the window. Bias and noise: mean
and standard deviation of the difference to the normal dose in uniform soft tissue. ensemble is equation (13), denoised
has the noise prior.

Research only, not for diagnosis.
"""


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, all with the same keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_summary(path: Path, rows: Sequence[Row]) -> None:
    """Write the means of all slices, and those of each patient where there are several."""
    patients = _grouped(rows, "patient")
    parts = ["# Evaluation", means_table(rows), NOTES]
    if len(patients) > 1:
        parts += [f"## {patient or 'Unknown patient'}\n\n{means_table(part)}" for patient, part in patients.items()]
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def means_table(rows: Sequence[Row]) -> str:
    """Markdown: one line per form, mean (standard deviation) of each metric over its rows."""
    titles = [TITLES[metric] for metric in METRICS] + [ABSOLUTE_BIAS]
    lines = ["| form | slices | " + " | ".join(titles) + " |", "|---|--:|" + "--:|" * len(titles)]
    for form, part in _grouped(rows, "form").items():
        values = {metric: np.array([row[metric] for row in part], dtype=float) for metric in METRICS}
        cells = [mean_and_deviation(values[metric], DECIMALS[metric]) for metric in METRICS]
        cells.append(mean_and_deviation(abs(values["bias_hu"]), DECIMALS["bias_hu"]))
        lines.append(f"| {form} | {len(part)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_deviation(values: np.ndarray, decimals: int) -> str:
    """'mean (standard deviation)' of what is not nan; a dash without any, no deviation where one is infinite."""
    values = values[~np.isnan(values)]
    if not values.size:
        return "-"
    if np.isinf(values).any():
        return str(values.mean())
    return f"{values.mean():.{decimals}f} ({values.std():.{decimals}f})"


def _grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row[key]), []).append(row)
    return groups
