"""Which scanner got noisier, and which did not."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import time_machine

from iscl_node.domain import Batch
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.store.records.exams import Exams

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FACTS = {"manufacturer": "Maker", "model": "M", "station": "CT1", "body_part": "CHEST", "kernel": "B30f", "kv": 120.0}

Note = Callable[..., None]


@pytest.fixture
def note(tmp_path: Path) -> Note:
    """Writes down series of so many HU of noise, one a day, the last one so many days ago."""
    exams = Exams(tmp_path)

    def write(noise_hu: Sequence[float], days_ago: int = 0, **facts: object) -> None:
        for number, noise in enumerate(noise_hu):
            day = NOW - timedelta(days=days_ago + len(noise_hu) - 1 - number, minutes=1)
            with time_machine.travel(day, tick=False):
                batch = Batch(f"1.2.{abs(hash((number, days_ago, str(facts))))}", "20261122T120000.000000Z")
                exams.note(batch, {**FACTS, "noise_hu": float(noise), **facts})
                exams.note(batch, {"derived_noise_hu": float(noise) / 2, "drift_hu": -0.1})

    return write


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, lambda: NOW)


def test_the_table_names_the_category_that_the_rule_has(note: Note, tmp_path: Path) -> None:
    note([10], rule="head")
    note([11], rule="other")
    note([12])
    table = Fleet(tmp_path, lambda: NOW, {"head": "Head routine dose", "other": ""}).table(7)
    rows = csv.DictReader(io.StringIO(table))
    assert {row["noise_hu"]: row["ct_category"] for row in rows} == {
        "10": "Head routine dose",
        "11": "unknown",
        "12": "unknown",
    }


def test_a_scanner_whose_noise_jumped_is_named_first(note: Note, fleet: Fleet) -> None:
    note([10, 11, 9, 10, 12, 10, 11], days_ago=7)
    note([15, 16, 14, 15, 17])
    note([20] * 30, station="CT2")
    first, second = fleet.trends(7)
    assert (first.protocol.scanner, first.got_noisier) == ("Maker M CT1", True)
    assert first.change("noise_hu") == pytest.approx(0.5)
    assert (first.series, first.series_before) == (5, 7)
    assert (second.protocol.scanner, second.got_noisier) == ("Maker M CT2", False)
    assert fleet.noisier() == 1


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([10] * 20, [10.5] * 7),  # plainly higher, by too little
        ([10] * 20, [15] * 4),  # too few
        ([10] * 3, [15] * 7),
        ([4, 25, 6, 30, 8, 22, 9, 18, 5, 28], [11, 24, 9, 20, 26]),  # all over the place
        ([15] * 20, [10] * 7),  # lower
    ],
)
def test_chance_and_little_are_no_alarm(note: Note, fleet: Fleet, before: list[float], now: list[float]) -> None:
    note(before, days_ago=7)
    note(now)
    assert [trend.got_noisier for trend in fleet.trends(7)] == [False]


def test_one_in_many_quiet_fleets_is_an_alarm_at_most(tmp_path: Path) -> None:
    """The rate of false alarms at equal noise, whose spread among patients is a third."""
    from iscl_node.pipeline.page.fleet import _rose

    random = np.random.default_rng(5)
    alarms = sum(_rose(list(random.normal(12, 4, 40)), list(random.normal(12, 4, 10))) for _ in range(2000))
    assert alarms <= 20


def test_other_protocols_are_other_lines(note: Note, fleet: Fleet) -> None:
    note([10] * 6)
    note([30] * 6, kernel="B70f")
    note([20] * 6, body_part="HEAD", kv=None)
    assert {trend.protocol.name for trend in fleet.trends(30)} == {
        "CHEST, kernel B30f, 120 kV",
        "CHEST, kernel B70f, 120 kV",
        "HEAD, kernel B30f",
    }
    (day, *_) = fleet.trends(30)[0].days
    assert (day.date, day.series) == ("2026-11-17", 1)


def test_what_is_older_than_the_days_before_does_not_count(note: Note, fleet: Fleet) -> None:
    note([10] * 6, days_ago=36)
    assert fleet.trends(7) == []


def test_the_table_has_a_line_for_each_series_and_no_formula(note: Note, fleet: Fleet) -> None:
    note([10, 11], station="=cmd()", ctdivol_mgy=7.123456)
    first, second = csv.DictReader(io.StringIO(fleet.table(30)))
    assert (first["station"], first["noise_hu"], first["ctdivol_mgy"]) == ("'=cmd()", "10", "7.123")
    assert (second["derived_noise_hu"], second["drift_hu"], second["size_specific_dose_mgy"]) == ("5.5", "-0.1", "")
