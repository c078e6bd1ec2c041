"""The durable workflows of a batch: the order of its steps, and what happens when one of them fails.

The engine keeps which steps of a workflow are done. A node that was killed in the middle of a step does that step
again when it starts, and none of the finished ones.

A batch has a workflow that decides what is made of it, one that makes that when its turn and its hours come, and then,
for each destination, a chain: *delivery* sends
what the destination has not stored; *confirmation* asks whether it keeps it; *report* concludes from the answer, or
from its absence: the next delivery, the next question, or the end. A workflow begins the next one before it ends, so
as long as a destination is waited for there is one under way; if not, `reconcile` begins one.
What waits for a person's or an archive's time is a delayed row of the engine, not a thread.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from iscl_node.domain import Batch
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.audit.what_happened import NO_AUDIT, Audit
from iscl_node.pipeline.delivery.answer import Answer
from iscl_node.pipeline.delivery.ask import Asking
from iscl_node.pipeline.delivery.conclude import ASK, SEND, Attempt, Concluding
from iscl_node.pipeline.delivery.send import Sending
from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.queues import Queue
from iscl_node.pipeline.engine.words import (
    DatabaseError,
    Durable,
    Work,
    enqueue,
    message,
    send_message,
    step,
    wake,
    workflow,
)
from iscl_node.pipeline.steps.plan import BegunRule
from iscl_node.pipeline.steps.series import SeriesSteps
from iscl_node.pipeline.workflows.trying import Trying, unforeseen_quarantined

_log = structlog.get_logger(__name__)

STEP_ORDER_VERSION = "13"
"""The engine resumes only workflows of its own version: change it when the order of the steps changes.

It is part of a workflow's identity, so a batch that was started in another order starts again; its derived instances,
as far as they are made, are found in the outbox. The earlier workflows stay in the database and never run again."""

_BATCHES_IN_HAND = 8
"""More than one, so that the disk's refusals for one series do not hold up the others."""

_DELIVERIES_IN_HAND = 4
"""For each destination; more than one, so that a series it has no room for does not hold up the others."""

BATCHES: Final = Queue("batches", worker_concurrency=_BATCHES_IN_HAND)
MAKING: Final = Queue("making", worker_concurrency=_BATCHES_IN_HAND)
"""In the order of priorities."""
MAKING_ALONE: Final = Queue("making", worker_concurrency=1)
"""The same where several workers share what is there, so that none has a hoard; its device works on one series."""
DELIVERIES: Final = Queue("deliveries", partition_concurrency=_DELIVERIES_IN_HAND)
"""With a partition for each destination, as the next one."""
CONFIRMATIONS: Final = Queue("confirmations", partition_concurrency=_DELIVERIES_IN_HAND)
REPORTS: Final = Queue("reports", worker_concurrency=_BATCHES_IN_HAND)
QUEUES: Final = (BATCHES, MAKING, DELIVERIES, CONFIRMATIONS, REPORTS)
SHARED_QUEUES: Final = (BATCHES, MAKING_ALONE, DELIVERIES, CONFIRMATIONS, REPORTS)
"""Of several workers on one database."""

SERIES, MAKE, DELIVERY, CONFIRMATION, REPORT = "series", "make", "delivery", "confirmation", "report"
"""The names of the workflows."""

FIRST_RUN = "0"
"""The run that closing a batch starts. One that `reconcile` starts has another name, drawn at random."""

_PLANNED, _SENDING = "planned", "sending"

_FORESEEN: Final = (IgnoreSeriesError, QuarantineSeriesError, DatabaseError)
"""Errors with a way of their own. After one of the database nothing is wrong with the batch: it starts again."""

Result = TypeVar("Result")


class SeriesWorkflow(Durable):
    """The workflows; see the module.

    Parameters
    ----------
    steps : SeriesSteps
        What makes the derived instances.
    sending, asking, concluding
        What is done at a destination.
    trying : Trying
        How a step is tried again.
    metrics : Metrics
        Outcomes.
    audit : Audit
        Records what was received, and what is sent.
    """

    def __init__(
        self,
        steps: SeriesSteps,
        sending: Sending,
        asking: Asking,
        concluding: Concluding,
        trying: Trying,
        metrics: Metrics,
        audit: Audit = NO_AUDIT,
    ) -> None:
        super().__init__("series")
        self._steps = steps
        self._sending = sending
        self._asking = asking
        self._concluding = concluding
        self._trying = trying
        self._metrics = metrics
        self._audit = audit

    def enqueue(self, batch: Batch, run: str = FIRST_RUN) -> None:
        """Start the batch's workflow; if it has one of this run already, in any state, nothing happens.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it, for example because its disk is full.
        """
        with not_waiting("takes no batch"):
            enqueue(BATCHES, _identity(batch, SERIES, run), self.run, batch.series_instance_uid, batch.key, run)

    def enqueue_delivery(self, batch: Batch, peer: str, round_: int, run: str, delay_seconds: float = 0) -> None:
        """Have a destination be sent what it lacks in a round; 0 is the first.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it, unless this is called in a workflow, which waits.
        """
        identity = _identity(batch, peer, "send", str(round_), run)
        arguments = batch.series_instance_uid, batch.key, peer, round_, run
        enqueue(DELIVERIES, identity, self.deliver, *arguments, partition=peer, delay_seconds=delay_seconds or None)

    def conclude_late(self, asked: Work, answer: Answer) -> None:
        """Conclude from a report that came when nothing waited for it any more, and the next question has not run yet.

        What follows has the identity that it has after that question, too: it starts once.
        """
        identity = f"{asked.identity}/late"
        enqueue(REPORTS, identity, self.report, *asked.arguments, delay_seconds=self._asking.report_seconds)
        send_message(identity, REPORT, answer, key=identity)
        wake(identity)

    @workflow(SERIES)
    def run(self, series_instance_uid: str, key: str, run: str) -> str:
        """Decide what is made of a batch, and have it made; the result is its outcome so far."""
        batch = Batch(series_instance_uid, key)
        with _series_in_log(batch):
            return self._outcome(batch, partial(self._plan, batch, run))

    @workflow(MAKE)
    def make(self, series_instance_uid: str, key: str, run: str) -> str:
        """Make what is to be sent of a batch, and have it sent; the result is its outcome so far."""
        batch = Batch(series_instance_uid, key)
        with _series_in_log(batch), self._steps.making(batch):
            return self._outcome(batch, partial(self._make, batch, run))

    @workflow(DELIVERY)
    def deliver(self, series_instance_uid: str, key: str, peer: str, round_: int, run: str) -> str:
        """Send a destination what it lacks of a batch; the result is why it refused, or nothing."""
        batch = Batch(series_instance_uid, key)
        with _series_in_log(batch):
            lacking = self._step("audit", self._audit.begin_sending, batch, peer)
            refusal = self._refusal(batch, peer)
            if not refusal:
                _log.info("batch.sent", batch=batch.key, peer=peer)
            self._step("audit", self._audit.sent, batch, peer, lacking, refusal)
            if self._step("settle", self._concluding.after_sending, batch, peer, refusal) == ASK:
                self._ask(batch, peer, Attempt(round_, 1, 0), run, time.time())
        return refusal

    @workflow(CONFIRMATION)
    def confirm(
        self, series_instance_uid: str, key: str, peer: str, round_: int, run: str, asks: int, misses: int, since: float
    ) -> None:
        """Ask a destination whether it keeps what it stored; what it says now, or later, is sent to `report`."""
        batch = Batch(series_instance_uid, key)
        with _series_in_log(batch):
            transaction = self._step("transaction", _transaction_uid)
            # Before the request: the report may come first.
            waiting = report_identity(transaction)
            arguments = series_instance_uid, key, peer, round_, run, asks, misses, since
            enqueue(REPORTS, waiting, self.report, *arguments, delay_seconds=self._asking.report_seconds)
            answer = self._step("ask", self._asking.ask, batch, peer, transaction, since)
            if answer is not None:
                self._hand_on(answer, waiting)

    def _hand_on(self, answer: Answer, waiting: str) -> None:
        wait_seconds = answer.get("wait_seconds")
        if wait_seconds is None:
            send_message(waiting, REPORT, answer)
        else:  # a report may still come: the request may have arrived
            self._metrics.retries.labels("ask").inc()
        wake(waiting, wait_seconds or 0)

    @workflow(REPORT)
    def report(
        self, series_instance_uid: str, key: str, peer: str, round_: int, run: str, asks: int, misses: int, since: float
    ) -> str:
        """Conclude from what a destination answered, or from that it did not; runs when it did, or when time is up."""
        batch = Batch(series_instance_uid, key)
        attempt = Attempt(round_, asks, misses)
        with _series_in_log(batch):
            after = self._step("conclude", self._concluding.conclude, batch, peer, attempt, message(REPORT))
            if after.step == SEND:
                self.enqueue_delivery(batch, peer, round_ + 1, run, after.wait_seconds)
            elif after.step == ASK:
                next_attempt = Attempt(round_, asks + 1, after.misses)
                self._ask(batch, peer, next_attempt, run, since, after.wait_seconds)
            else:
                self._step("settle", self._concluding.settle, batch)
        return after.step

    def _ask(self, batch: Batch, peer: str, attempt: Attempt, run: str, since: float, delay_seconds: float = 0) -> None:
        round_, asks, misses = attempt
        identity = _identity(batch, peer, "ask", str(round_), run, str(asks))
        arguments = batch.series_instance_uid, batch.key, peer, round_, run, asks, misses, since
        enqueue(CONFIRMATIONS, identity, self.confirm, *arguments, partition=peer, delay_seconds=delay_seconds or None)

    def _outcome(self, batch: Batch, work: Callable[[], str]) -> str:
        try:
            with unforeseen_quarantined("batch.unforeseen_fault", *_FORESEEN, batch=batch.key):
                outcome = work()
        except IgnoreSeriesError as error:
            outcome = self._ignore(batch, str(error))
        except QuarantineSeriesError as error:
            outcome = self._quarantine(batch, str(error))
        if outcome not in (_PLANNED, _SENDING):
            self._metrics.batches.labels(outcome).inc()
            _log.info("batch.ended", batch=batch.key, outcome=outcome)
        return outcome

    def _plan(self, batch: Batch, run: str) -> str:
        self._step("audit", self._audit.received, batch)
        rule, *_ = self._step("check", self._steps.check, batch)
        self._enqueue_making(batch, run, *self._steps.when(batch, rule))
        return _PLANNED

    def _enqueue_making(self, batch: Batch, run: str, priority: int, delay_seconds: float) -> None:
        identity, arguments = _identity(batch, MAKE, run), (batch.series_instance_uid, batch.key, run)
        enqueue(MAKING, identity, self.make, *arguments, priority=priority, delay_seconds=delay_seconds or None)

    def _make(self, batch: Batch, run: str) -> str:
        rule, series_uids, files = self._step("planned", self._steps.planned, batch)
        started = time.monotonic()
        for file in files:
            self._step("derive", self._steps.derive, batch, rule, series_uids, file)
        _log.info("batch.denoised", batch=batch.key, slices=len(files), seconds=round(time.monotonic() - started, 1))
        made = [(series_uid, len(files)) for series_uid in series_uids]
        made += self._step("judge", self._steps.judge, batch, rule, files)
        self._begin_deliveries(batch, rule, made, run)
        return _SENDING

    def _begin_deliveries(self, batch: Batch, rule: BegunRule, made: Sequence[tuple[str, int]], run: str) -> None:
        # A step of its own: with other destinations after a restart, one delivery would be taken for another one.
        for peer in self._step("destinations", self._steps.destinations, batch, rule, made):
            self.enqueue_delivery(batch, peer, 0, run)

    def _refusal(self, batch: Batch, peer: str) -> str:
        """Send, and return why a destination refused what was sent to it, or nothing."""
        try:
            with unforeseen_quarantined("delivery.unforeseen_fault", *_FORESEEN, batch=batch.key, peer=peer):
                self._step("send", self._sending.send, batch, peer)
        except QuarantineSeriesError as error:
            return str(error)
        return ""

    def _ignore(self, batch: Batch, reason: str) -> str:
        _log.info("batch.ignored", batch=batch.key, reason=reason)
        self._step("ignore", self._steps.ignore, batch, reason)
        return "ignored"

    def _quarantine(self, batch: Batch, reason: str) -> str:
        _log.warning("batch.quarantined", batch=batch.key, reason=reason)
        self._step("quarantine", self._steps.quarantine, batch, reason)
        return "quarantine"

    def _step(self, name: str, work: Callable[..., Result], *arguments: Any) -> Result:
        """One durable step."""
        return step(name, self._trying.tried(name, work), *arguments)


def _series_in_log(batch: Batch) -> AbstractContextManager[object]:
    return structlog.contextvars.bound_contextvars(series_uid=batch.series_instance_uid)  # hashed in the log


def _identity(batch: Batch, *part: str) -> str:
    """The identity of a workflow of the batch."""
    return "/".join([batch.workflow_id, STEP_ORDER_VERSION, *part])


def report_identity(transaction_uid: str) -> str:
    """The identity of the workflow that waits for the report on a request for storage commitment."""
    return f"{REPORT}/{transaction_uid}"


def place_of(work: Work) -> tuple[Any, ...]:
    """Batch, destination and round of a workflow; of one that makes what is sent the batch and nothing."""
    series_instance_uid, key, *rest = work.arguments
    peer, round_ = rest[:2] if work.name not in (SERIES, MAKE) else ("", 0)
    return Batch(series_instance_uid, key), peer, round_


def _transaction_uid() -> str:
    """Drawn (PS3.5 B.2), because no two requests may have the same, over losses of the workflow database, too."""
    return f"2.25.{uuid.uuid4().int}"
