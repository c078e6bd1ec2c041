"""Concludes what comes next from what a destination answered, and brings a batch to its end."""

import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import structlog

from iscl_node.domain import Batch
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.answer import NOT_ASKED, QUERY, Answer
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations, query_service
from iscl_node.pipeline.disk_refusals import disk_refusals_retried
from iscl_node.retry import Backoff
from iscl_node.store.records.deliveries import DeliveryRecord
from iscl_node.store.records.waits import Wait, Waits

_log = structlog.get_logger(__name__)

LOOKS: Final = 5
"""How often C-FIND must miss an instance before it is sent again: many archives list what they stored a while later."""

_FIRST_ROUND_TRIES = 4
"""So many doublings of the first wait go before the second sending: what is only listed late is not stored twice."""

_NEVER = {0x0119: "class-instance conflict", 0x0122: "SOP Class not supported"}
"""Failure Reasons (PS3.3 C.14.1.1) that sending again will not change: another object has this UID there, or this
destination commits nothing of the kind. All others, and no mention at all, mean that it is to be sent again."""

_NOWHERE = "it is not known where this batch was sent; requeue the series"

SEND, ASK, END = "send", "ask", "end"
"""What comes next for a destination."""


class Next(NamedTuple):
    """What comes next, after how many seconds, and why not now.

    ``misses`` is how often C-FIND missed something in this round.
    """

    step: str
    wait_seconds: float = 0.0
    misses: int = 0
    reason: str = ""


class Attempt(NamedTuple):
    """Of which round an answer is, the how-maniest question it answers, and how often C-FIND missed something."""

    round: int
    asks: int
    misses: int


class Concluding:
    """The steps that conclude.

    Parameters
    ----------
    destinations : Destinations
        What they stored and answered.
    deadline : Deadline
        When to give up.
    backoff : Backoff
        Of further questions and rounds.
    report_seconds : float
        The longest wait between two questions to a destination that shows nothing.
    metrics : Metrics
        Counts answers and ends.
    """

    def __init__(
        self, destinations: Destinations, deadline: Deadline, backoff: Backoff, report_seconds: float, metrics: Metrics
    ) -> None:
        self._destinations = destinations
        self._spool, self._deliveries = destinations.spool, destinations.deliveries
        self._deadline = deadline
        self._backoff = backoff
        self._report_seconds = report_seconds
        self._metrics = metrics
        self._waits = Waits(self._spool.root)
        self._lock = threading.Lock()
        for name in destinations.peers:
            metrics.resent_instances.labels(name)  # 0: of a counter that begins with 1 no alert sees the increase

    def after_sending(self, batch: Batch, peer_name: str, refusal: str) -> str:
        """Write down a refusal; say whether the destination is to be asked what it keeps, or is at its end.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        if refusal:
            self._refuse(batch, peer_name, refusal)
        self.settle(batch)
        return ASK if self._is_open(batch, peer_name) else END

    def conclude(self, batch: Batch, peer_name: str, attempt: Attempt, answer: Answer | None) -> Next:
        """What comes next, after this answer or, without one, when none came in time.

        A round that is over, because an earlier run of this step said so before it was killed, is not judged again.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        after = self._concluded(batch, peer_name, attempt, answer)
        if after.wait_seconds:
            self._waits.note(batch, peer_name, Wait(after.reason, time.time() + after.wait_seconds))
        else:
            self._waits.end(batch, peer_name)
        return after

    def _concluded(self, batch: Batch, peer_name: str, attempt: Attempt, answer: Answer | None) -> Next:
        if not self._is_open(batch, peer_name):
            return Next(END)
        record = self._destinations.record(batch, peer_name)
        if record.rounds > attempt.round:
            return self._next_round(record.rounds)
        if answer is None:
            return self._unless_given_up(batch, peer_name, "no report on storage commitment came", Next(ASK))
        if refusal := answer.get("refusal") or _never(peer_name, answer, record):
            return self._refused(batch, peer_name, answer, refusal)
        if answer["way"] == NOT_ASKED:  # nothing need be confirmed by now, and something is not stored
            return Next(SEND)
        return self._judged(batch, peer_name, attempt, answer, record)

    def _is_open(self, batch: Batch, peer_name: str) -> bool:
        return self._destinations.is_open(batch, peer_name)

    def _refused(self, batch: Batch, peer_name: str, answer: Answer, refusal: str) -> Next:
        self._refuse(batch, peer_name, refusal)
        self._count(peer_name, answer, "refused")
        _log.warning("confirmation.refused", batch=batch.key, peer=peer_name, reason=refusal)
        return Next(END)

    def _judged(self, batch: Batch, peer_name: str, attempt: Attempt, answer: Answer, record: DeliveryRecord) -> Next:
        """Hold an answer against the whole outbox and all that was ever stored, not against what is left of it."""
        everything = self._spool.derived_instances(batch).keys() | record.instances.keys()
        query = query_service(self._destinations.peers[peer_name])
        lacking = {uid: _reason(answer, uid, query) for uid in sorted(everything - set(answer["committed"]))}
        if not lacking:
            return self._confirmed(batch, peer_name, answer, len(everything))
        if answer["way"] == QUERY and attempt.misses < LOOKS - 1:
            self._count(peer_name, answer, "not yet")
            told = f"{len(lacking)} of {len(everything)} instances are not found by {query} yet"
            return Next(ASK, self._backoff.wait_seconds(attempt.misses + 1), attempt.misses + 1, told)
        wait_seconds = self._backoff.last_seconds * 2.0 ** min(attempt.asks, 60)
        if len(lacking) == len(everything) and record.is_stopped and wait_seconds < self._report_seconds:
            return self._stopped(batch, peer_name, attempt, answer, wait_seconds)
        return self._missing(batch, peer_name, answer, lacking, record)

    def _confirmed(self, batch: Batch, peer_name: str, answer: Answer, instances: int) -> Next:
        with disk_refusals_retried():
            self._deliveries.note_confirmed(batch, peer_name, answer["way"], answer.get("transaction_uid", ""))
        self._count(peer_name, answer, "confirmed")
        _log.info("confirmation.confirmed", batch=batch.key, peer=peer_name, way=answer["way"], instances=instances)
        return Next(END)

    def _stopped(self, batch: Batch, peer_name: str, attempt: Attempt, answer: Answer, wait_seconds: float) -> Next:
        """Store nothing at a destination that shows nothing of what it takes; keep the images, and ask on.

        The waits double until they would be longer than that for a report; then there is one more round.
        """
        self._count(peer_name, answer, "shows nothing")
        _log.error("delivery.stopped", batch=batch.key, peer=peer_name, rounds=attempt.round + 1, way=answer["way"])
        ask = Next(ASK, wait_seconds, attempt.misses)
        return self._unless_given_up(batch, peer_name, f"peer {peer_name} takes everything and shows nothing", ask)

    def _missing(
        self, batch: Batch, peer_name: str, answer: Answer, lacking: Mapping[str, str], record: DeliveryRecord
    ) -> Next:
        with disk_refusals_retried():
            self._deliveries.note_missing(batch, peer_name, lacking, record.rounds + 1)
        self._metrics.resent_instances.labels(peer_name).inc(len(lacking))
        self._count(peer_name, answer, "missing")
        reasons = sorted(set(lacking.values()))
        count = len(lacking)
        _log.warning("confirmation.found_missing", batch=batch.key, peer=peer_name, instances=count, reasons=reasons)
        lost = f"peer {peer_name} stored {count} instances and has lost them"
        return self._unless_given_up(batch, peer_name, lost, self._next_round(record.rounds + 1))

    def _next_round(self, rounds: int) -> Next:
        return Next(SEND, self._backoff.wait_seconds(rounds + _FIRST_ROUND_TRIES - 1))

    def _unless_given_up(self, batch: Batch, peer_name: str, reason: str, otherwise: Next) -> Next:
        end = self._deadline.end(batch, reason)
        if end:
            self._refuse(batch, peer_name, end)
        return Next(END) if end else otherwise._replace(reason=reason)

    def _refuse(self, batch: Batch, peer_name: str, reason: str) -> None:
        """Write down that a destination will never take what it does not have, if the batch is still under way."""
        if self._is_open(batch, peer_name):
            with disk_refusals_retried():
                self._deliveries.note_refusal(batch, peer_name, reason)

    def _count(self, peer_name: str, answer: Answer, outcome: str) -> None:
        self._metrics.confirmations.labels(peer_name, answer["way"], outcome).inc()

    def settle(self, batch: Batch) -> None:
        """Bring a batch to its end if no destination is waited for; mark it as sent if each has stored everything.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        with self._lock, disk_refusals_retried():
            if not self._deliveries.is_under_way(batch):
                return
            names = self._deliveries.destinations(batch)
            ends = {name: self._destinations.end(batch, name) for name in names}
            if None not in ends.values() and (names or self._spool.is_sent(batch)):
                self._end(batch, [end for end in ends.values() if end] if names else [_NOWHERE])
            elif names and all(end is not None or self._destinations.has_stored(batch, n) for n, end in ends.items()):
                self._spool.mark_sent(batch)

    def _end(self, batch: Batch, refusals: list[str]) -> None:
        outcome = "quarantine" if refusals else "done"
        log = _log.bind(series_uid=batch.series_instance_uid, batch=batch.key)
        reason = "; ".join(dict.fromkeys(refusals))
        is_moved = self._spool.quarantine(batch, reason) if refusals else self._spool.release(batch)
        if not is_moved:  # another worker, which has another destination of it, just did so
            return
        if refusals:
            log.warning("batch.quarantined", reason=reason)
        self._metrics.batches.labels(outcome).inc()
        log.info("batch.ended", outcome=outcome)


def _reason(answer: Answer, sop_uid: str, query: str) -> str:
    if answer["way"] == QUERY:
        return f"not found by {query}"
    reason = answer["failed"].get(sop_uid)
    return "not in the report" if reason is None else f"{reason:04X}"


def _never(peer_name: str, answer: Answer, record: DeliveryRecord) -> str:
    """Why a destination will never commit to an instance; empty if it may."""
    for uid in sorted(record.instances.keys() - set(answer["committed"])):
        reason = answer["failed"].get(uid)
        if reason in _NEVER:
            return f"peer {peer_name} commits to none of it: failure reason {reason:04X} ({_NEVER[reason]})"
    return ""
