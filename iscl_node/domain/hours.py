"""When a rule's series are made: its priority, and the hours of the day that it waits for."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, Literal

Priority = Literal["urgent", "normal", "off-peak"]

PRIORITIES: Final[dict[str, int]] = {"urgent": 1, "normal": 2, "off-peak": 3}
"""In which order they are made: the lower number first."""

_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Hours:
    """A part of every day, by the clock on the wall: from ``start`` to ``end``, over midnight if that is earlier."""

    start: time
    end: time

    @classmethod
    def read(cls, text: str) -> "Hours":
        """Read ``20:00-06:00``.

        Raises
        ------
        ValueError
            It is none.
        """
        found = _HOURS.fullmatch(text)
        if found is None or found[1] + found[2] == found[3] + found[4]:
            raise ValueError("hours are written as 20:00-06:00, from one time of the day to another one")
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        return cls(time(from_hour, from_minute), time(to_hour, to_minute))

    def __contains__(self, now: time) -> bool:
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def begin(self, now: datetime) -> datetime:
        """When they begin next; ``now`` itself, if that is within them. Both are of the time zone that counts."""
        if now.time() in self:
            return now
        today = now.replace(hour=self.start.hour, minute=self.start.minute, second=0, microsecond=0)
        # One day later by the wall clock, also when the clocks change that night.
        return today if _utc(today) > _utc(now) else today + timedelta(days=1)


def wait_seconds(planned: Mapping[str, Any]) -> float:
    """How many seconds from now a batch waits for its hours, which its plan has as ``not_before``; 0 if it does not."""
    with suppress(KeyError, TypeError, ValueError):
        return max(0.0, datetime.fromisoformat(planned["not_before"]).timestamp() - datetime.now(UTC).timestamp())
    return 0.0


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
