"""The hours of a rule, by the clock on the wall."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine

from iscl_node.domain import Rule
from iscl_node.domain.hours import Hours, wait_seconds
from iscl_node.pipeline.steps.plan import order_of, place_in_time

ZURICH = ZoneInfo("Europe/Zurich")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH)


@pytest.mark.parametrize(
    ("hours", "now", "begin"),
    [
        ("20:00-06:00", "2026-03-02T19:59", "2026-03-02T20:00"),
        ("20:00-06:00", "2026-03-02T20:00", "2026-03-02T20:00"),
        ("20:00-06:00", "2026-03-02T23:30:10", "2026-03-02T23:30:10"),
        ("20:00-06:00", "2026-03-02T05:59", "2026-03-02T05:59"),
        ("20:00-06:00", "2026-03-02T06:00", "2026-03-02T20:00"),
        ("01:00-05:00", "2026-03-02T12:00", "2026-03-03T01:00"),
        ("01:00-05:00", "2026-03-02T04:00", "2026-03-02T04:00"),
        ("22:00-23:00", "2026-03-28T23:30", "2026-03-29T22:00"),  # a day of 23 hours
    ],
)
def test_a_series_waits_until_they_begin(hours: str, now: str, begin: str) -> None:
    assert Hours.read(hours).begin(at(now)) == at(begin)


def test_the_plan_has_them_only_if_they_had_not_begun() -> None:
    rule = Rule("a", {}, "full", (), "", (), priority="off-peak", hours=Hours.read("20:00-06:00"))
    with time_machine.travel(at("2026-03-02T12:00"), tick=False):
        waiting = place_in_time(rule, "Europe/Zurich")
        assert datetime.fromisoformat(waiting["not_before"]) == at("2026-03-02T20:00")
        assert wait_seconds(waiting) == 8 * 3600
        assert order_of(waiting) == 3
    with time_machine.travel(at("2026-03-02T21:00"), tick=False):
        assert wait_seconds(waiting) == 0
        assert place_in_time(rule, "Europe/Zurich") == {"priority": "off-peak"}
    assert wait_seconds({}) == wait_seconds({"not_before": "garbage"}) == 0
    assert order_of({}) == order_of({"priority": "normal"}) == 2


@pytest.mark.parametrize("text", ["20:00", "20-06", "24:00-06:00", "20:00-20:00", "20:00-06:60", "nights"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="written as 20:00-06:00"):
        Hours.read(text)
