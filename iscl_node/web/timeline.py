"""What happened to a batch, in order, from its folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from iscl_node.domain import SeriesState
from iscl_node.pipeline.page.overview import Row, closed_at
from iscl_node.web.rendering import duration

_ENDS = {
    SeriesState.DONE: "Every destination has it and keeps it",
    SeriesState.QUARANTINE: "Put into quarantine",
    SeriesState.IGNORED: "Left alone",
}


@dataclass(frozen=True)
class Event:
    """Something that happened; ``time`` is in seconds since the epoch, ``is_bad`` marks what a person should see."""

    time: float
    what: str
    detail: str = ""
    is_bad: bool = False


def timeline(row: Row) -> list[Event]:
    """What happened to a batch, oldest first."""
    return sorted(_events(row), key=lambda event: event.time)


def _events(row: Row) -> Iterator[Event]:
    closed = closed_at(row)
    if closed is not None:
        yield Event(
            closed, "Closed", f"{row.slices} instances, from {row.described.sender or 'a sender without a name'}"
        )
    else:
        yield Event(row.listed.since, "Last arrival", row.reason)
    yield from _making(row)
    for delivered in row.listed.deliveries:
        for line in delivered.events:
            yield _event(delivered.destination, line)
    if row.listed.state in _ENDS:
        is_bad = row.listed.state is SeriesState.QUARANTINE
        yield Event(row.listed.since, _ENDS[row.listed.state], row.listed.reason, is_bad)


def _making(row: Row) -> Iterator[Event]:
    begun, last = row.listed.planned_at, row.listed.made_at
    if begun is not None:
        yield Event(begun, "Checked, and a rule chosen", f"rule {row.rule}" if row.rule else "")
    if begun is not None and last is not None and row.derived:
        yield Event(last, f"Denoised {row.derived} of {row.slices} instances", f"took {duration(last - begun)}")


def _event(destination: str, line: Any) -> Event:
    count, time = line.get("count", 1), _seconds(line.get("last", ""))
    match line["event"]:
        case "answered" if line.get("stored"):
            return Event(time, f"{destination} stored {count} instances", f"status {line.get('status')}")
        case "answered":
            return Event(time, f"{destination} did not store {count} instances", f"status {line.get('status')}", True)
        case "missing":
            return Event(time, f"{destination} lacks {count} instances", str(line.get("reason", "")), True)
        case "refused":
            return Event(time, f"{destination} refuses", str(line.get("reason", "")), True)
        case "confirmed":
            return Event(time, f"{destination} confirmed that it keeps everything", f"by {line.get('way')}")
        case "again":
            return Event(time, f"{destination} is sent everything once more", "a person wants it")
        case other:
            return Event(time, f"{destination}: {other}")


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0
