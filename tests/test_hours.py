"""The hours of a rule, by the clock on the wall."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from iscl_node.domain.hours import Hours

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


@pytest.mark.parametrize("text", ["20:00", "20-06", "24:00-06:00", "20:00-20:00", "20:00-06:60", "nights"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="written as 20:00-06:00"):
        Hours.read(text)
