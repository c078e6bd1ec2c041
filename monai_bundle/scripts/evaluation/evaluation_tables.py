"""The tables of an evaluation: rows as CSV, their means as Markdown."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Row = Mapping[str, str | float]


@dataclass(frozen=True)
class Column:
    """A column of a table of means.

    Attributes
    ----------
    key : str
        In the rows.
    title : str
        With its unit.
    decimals : int
        That are shown.
    absolute : bool
        Mean of the absolute values.
    """

    key: str
    title: str
    decimals: int
    absolute: bool = False


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, all with the same keys; NaN where something could not be measured."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def means_table(rows: Sequence[Row], columns: Sequence[Column], by: str = "form") -> str:
    """Markdown: one line for each value of ``by``, mean (standard deviation) of each column over its rows."""
    lines = [f"| {by} | slices | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|---|--:|" + "--:|" * len(columns))
    for name, part in grouped(rows, by).items():
        cells = [mean_and_deviation([row[column.key] for row in part], column) for column in columns]
        lines.append(f"| {name} | {len(part)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_deviation(values: Sequence[str | float], column: Column) -> str:
    """'mean (standard deviation)' of what is not NaN; a dash without any, no deviation where one is infinite."""
    known = np.array(values, dtype=float)
    known = known[~np.isnan(known)]
    if column.absolute:
        known = abs(known)
    if not known.size:
        return "-"
    if np.isinf(known).any():
        return str(known.mean())
    return f"{known.mean():.{column.decimals}f} ({known.std():.{column.decimals}f})"


def grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    """The rows for each value of a key, in the order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row[key]), []).append(row)
    return groups
