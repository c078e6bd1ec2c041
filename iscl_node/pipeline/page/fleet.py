"""Which scanner got noisier: noise and dose by scanner and protocol over time, of all series that were measured.

A protocol is body part, kernel and kV on one scanner. Its last days are held against those before: it got noisier
when the median of its noise rose by a seventh or more, and so plainly that chance is no explanation (Wilcoxon's rank
sum).
"""

import csv
import io
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from iscl_node.store.records.exams import Exam, Exams

PERIODS: Final = (7, 30, 90)
"""Days that can be looked at."""
DAYS_BEFORE: Final = {7: 28, 30: 90, 90: 180}
"""With how many days before they are compared."""
FEWEST: Final = 5
"""Series in a period, or nothing is said."""
UNKNOWN: Final = "unknown"
"""A CT category that no rule names: the measure wants the indication, which is in no image."""
_LEAST_RISE: Final = 1 / 7
_LEAST_Z: Final = 2.58
"""One in two hundred by chance."""
_REST_SECONDS: Final = 5.0
_MEASURED: Final = ("noise_hu", "derived_noise_hu", "drift_hu", "ctdivol_mgy", "diameter_mm", "size_specific_dose_mgy")
COLUMNS: Final = (
    *("time", "manufacturer", "model", "station", "body_part", "kernel", "kv", "rule", "ct_category"),
    *("noise_hu", "derived_noise_hu", "drift_hu", "ctdivol_mgy", "phantom_mm", "diameter_mm", "size_specific_dose_mgy"),
)
"""Of the CSV file."""


@dataclass(frozen=True)
class Protocol:
    """Body part, kernel and kV on one scanner."""

    scanner: str
    body_part: str
    kernel: str
    kv: str

    @property
    def name(self) -> str:
        """The protocol in words."""
        parts = (self.body_part, self.kernel and f"kernel {self.kernel}", self.kv and f"{self.kv} kV")
        return ", ".join(each for each in parts if each) or "protocol unknown"


@dataclass(frozen=True)
class Day:
    """The medians of a day, by what was measured; ``series`` counts them."""

    date: str
    series: int
    medians: Mapping[str, float | None]


@dataclass(frozen=True)
class Trend:
    """A protocol over time: medians of the period and of the days before, by what was measured."""

    protocol: Protocol
    days: tuple[Day, ...]
    series: int
    series_before: int
    now: Mapping[str, float | None]
    before: Mapping[str, float | None]
    got_noisier: bool

    def change(self, what: str) -> float | None:
        """By which part the median changed; None where it is not known twice."""
        now, before = self.now.get(what), self.before.get(what)
        return None if now is None or not before else now / before - 1


class Fleet:
    """Noise and dose of the scanners; safe to be used by several threads.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    now : callable
        The time.
    categories : mapping of str to str
        The CT category of the US dose measure, by the name of the rule; a rule that is not here has none.
    """

    def __init__(
        self,
        root: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        categories: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._exams = Exams(root)
        self._categories = categories
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[int, tuple[float, list[Trend]]] = {}

    def trends(self, days: int) -> list[Trend]:
        """Every protocol of the last days and those before; first what got noisier, then the most used."""
        with self._lock:
            looked_at, trends = self._known.get(days, (-_REST_SECONDS, []))
            if time.monotonic() - looked_at >= _REST_SECONDS:
                trends = self._trends(days)
                self._known[days] = time.monotonic(), trends
            return trends

    def noisier(self) -> int:
        """How many protocols got noisier in the shortest period."""
        return sum(trend.got_noisier for trend in self.trends(PERIODS[0]))

    def table(self, days: int) -> str:
        """The examinations of the last days and those before as CSV (RFC 4180)."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        for exam in self._since(days):
            category = self._categories.get(str(exam.get("rule", ""))) or UNKNOWN
            writer.writerow({key: _plain(value) for key, value in {**exam, "ct_category": category}.items()})
        return stream.getvalue()

    def _since(self, days: int) -> list[Exam]:
        return self._exams.since(self._now() - timedelta(days=days + DAYS_BEFORE[days]))

    def _trends(self, days: int) -> list[Trend]:
        split = (self._now() - timedelta(days=days)).astimezone(UTC).isoformat(timespec="seconds")
        exams: dict[Protocol, list[Exam]] = defaultdict(list)
        for exam in self._since(days):
            if "model" in exam:  # its first line may be older
                exams[_protocol(exam)].append(exam)
        trends = [_trend(protocol, every, split) for protocol, every in exams.items()]
        return sorted(trends, key=lambda each: (not each.got_noisier, -each.series, each.protocol.scanner))


def _protocol(exam: Exam) -> Protocol:
    scanner = " ".join(str(exam[key]) for key in ("manufacturer", "model", "station") if exam.get(key))
    kv = exam.get("kv")
    told = str(exam.get("body_part") or ""), str(exam.get("kernel") or ""), "" if kv is None else f"{kv:g}"
    return Protocol(scanner or "unknown scanner", *told)


def _trend(protocol: Protocol, exams: Sequence[Exam], split: str) -> Trend:
    now, before = ([each for each in exams if (each["time"] >= split) is is_now] for is_now in (True, False))
    by_day: dict[str, list[Exam]] = defaultdict(list)
    for exam in exams:
        by_day[exam["time"][:10]].append(exam)
    days = tuple(Day(date, len(every), _medians(every)) for date, every in sorted(by_day.items()))
    noisier = _rose(_values(before, "noise_hu"), _values(now, "noise_hu"))
    return Trend(protocol, days, len(now), len(before), _medians(now), _medians(before), noisier)


def _rose(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether values are plainly higher than those before: the median, and the sum of ranks beyond chance."""
    if min(len(before), len(now)) < FEWEST or median(now) < (1 + _LEAST_RISE) * median(before):
        return False
    known = np.sort(before)
    below = np.searchsorted(known, now, "left") + np.searchsorted(known, now, "right")
    pairs = len(before) * len(now)
    above = float(below.sum()) / 2 - pairs / 2
    return above >= _LEAST_Z * float(np.sqrt(pairs * (len(before) + len(now) + 1) / 12))


def _medians(exams: Sequence[Exam]) -> dict[str, float | None]:
    return {what: median(values) if (values := _values(exams, what)) else None for what in _MEASURED}


def _values(exams: Iterable[Exam], what: str) -> list[float]:
    return [float(exam[what]) for exam in exams if isinstance(exam.get(what), int | float)]


def _plain(value: Any) -> Any:
    """A value that a spreadsheet takes for no formula; numbers in the precision that they have."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
