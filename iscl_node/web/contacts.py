"""When peers were heard of last, how much, and what failed, from the spool."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from iscl_node.domain import Peer
from iscl_node.pipeline.page.overview import Row, Step
from iscl_node.store.listing import Delivered

_DAY_SECONDS = 86400


@dataclass(frozen=True)
class Contact:
    """A peer; ``received`` in seconds since the epoch, ``answered`` in ISO 8601, of ``failures`` the last reason."""

    peer: Peer
    received: float | None
    answered: str
    series_of_day: int
    failures: int
    failure: str


def contact_of(peer: Peer, rows: Sequence[Row], now: float) -> Contact:
    """What the batches in the spool show of a peer."""
    received = [row.listed.since for row in rows if peer.may_store and row.described.sender == peer.ae_title]
    here = [(row, each) for row in rows for each in row.listed.deliveries if each.destination == peer.name]
    delivered = [each for _, each in here]
    yesterday = (datetime.fromtimestamp(now, UTC) - timedelta(seconds=_DAY_SECONDS)).isoformat()
    stored = [each for each in delivered if each.stored and _last(each) >= yesterday]
    failed = [reason for row, each in here if (reason := each.refusal or _failure(row, each))]
    return Contact(
        peer,
        max(received, default=None),
        max(map(_last, delivered), default=""),
        sum(time >= now - _DAY_SECONDS for time in received) + len(stored),
        len(failed),
        failed[-1] if failed else "",
    )


def _failure(row: Row, delivered: Delivered) -> str:
    """Why it does not take something now; a confirmation that is waited for is no failure."""
    return delivered.wait.reason if row.step is Step.SENDING and delivered.wait is not None else ""


def _last(delivered: Delivered) -> str:
    return str(delivered.last.get("last", ""))
