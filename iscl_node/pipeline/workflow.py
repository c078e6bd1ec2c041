"""The durable workflows of a batch: the order of its steps, and what happens when one of them fails.

DBOS keeps which steps of a batch are done. A node that was killed in the middle of a step does that step
again when it starts, and none of the finished ones.

A batch has one workflow that makes its derived instances, one for each destination, which may wait there for ever, and
one that ends the sending, begun by whichever delivery ends last. What a destination turns out not to have is sent again
by a further workflow.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import structlog

from iscl_node.domain import Batch
from iscl_node.errors import IgnoreSeriesError, IsclNodeError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.auditing import NO_AUDIT, Audit
from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.queues import Queue
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.words import DatabaseError, Durable, all_said, enqueue, say, step, workflow
from iscl_node.pipeline.plan import BegunRule
from iscl_node.pipeline.steps import SeriesSteps

_log = structlog.get_logger(__name__)

STEP_ORDER_VERSION = "11"
"""DBOS resumes only workflows of its own version: change it when the order of the steps changes.

It is part of a workflow's identity, so a batch that was begun in another order is begun anew; its derived instances,
as far as they are made, are found in the outbox. The earlier workflows stay in the database and never run again."""

_BATCHES_IN_HAND = 8
"""More than one, so that the disk's refusals for one series do not hold up the others."""

_DELIVERIES_IN_HAND = 4
"""For each destination; more than one, so that a series it has no room for does not hold up the others."""

BATCHES = Queue("batches", worker_concurrency=_BATCHES_IN_HAND)
DELIVERIES = Queue("deliveries", partition_concurrency=_DELIVERIES_IN_HAND)
"""With a partition for each destination."""
ENDS = Queue("ends")
QUEUES = (BATCHES, DELIVERIES, ENDS)

_REFUSAL = "refusal"
"""The event by which a delivery tells that it ended: the reason of the destination, or nothing."""

_SENDING = "sending"
_SENT = "sent"

Result = TypeVar("Result")


class SeriesWorkflow(Durable):
    """check, derive every instance, judge the whole, make the evidence, send to each destination, release.

    Released, a batch waits for its destinations' confirmation (:mod:`iscl_node.pipeline.confirmation`).

    Parameters
    ----------
    steps : SeriesSteps
        What is done.
    shutdown : Shutdown
        Asked between two steps.
    metrics : Metrics
        Outcomes and times.
    first_retry_seconds, last_retry_seconds : float
        The wait before a step is tried again doubles from the first to the last, and the node
        never gives up by itself.
    audit : Audit
        Told what was received, and what is sent.
    """

    def __init__(
        self,
        steps: SeriesSteps,
        shutdown: Shutdown,
        metrics: Metrics,
        first_retry_seconds: float,
        last_retry_seconds: float,
        audit: Audit = NO_AUDIT,
    ) -> None:
        super().__init__("series")
        self._steps = steps
        self._shutdown = shutdown
        self._metrics = metrics
        self._first_retry_seconds = first_retry_seconds
        self._last_retry_seconds = last_retry_seconds
        self._audit = audit

    def enqueue(self, batch: Batch) -> None:
        """Start the batch's workflow; if it has one already, in whatever state, nothing happens.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it, for example because its disk is full.
        """
        with not_waiting("takes no batch"):
            enqueue(BATCHES, _identity(batch), self.run, batch.series_instance_uid, batch.key)

    @workflow("series")
    def run(self, series_instance_uid: str, key: str) -> str:
        """Make what is to be sent of a batch, and have it sent; the result is its outcome so far."""
        batch = Batch(series_instance_uid, key)
        return self._outcome(batch, partial(self._make, batch))

    @workflow("delivery")
    def deliver(
        self, series_instance_uid: str, key: str, peer: str, peers: Sequence[str], made: Sequence[tuple[str, int]]
    ) -> str:
        """Send all that was made to one of the batch's destinations; the result is why that refused, or nothing."""
        batch = Batch(series_instance_uid, key)
        with _series_in_log(batch):
            self._step("audit", self._audit.begin_sending, batch, peer, made)
            refusal = self._refusal(batch, peer, partial(self._send, batch, peer, made))
            self._step("audit", self._audit.sent, batch, peer, made, refusal)
        # Told before it is asked who has told: of several that end at once, one at least sees all.
        say(_REFUSAL, refusal)
        refusals = self._step("refusals", _refusals, batch, peers)
        if refusals is not None:
            # If two see all, the second has no effect.
            enqueue(ENDS, _identity(batch, "end"), self.end, series_instance_uid, key, refusals)
        return refusal

    @workflow("end")
    def end(self, series_instance_uid: str, key: str, refusals: Sequence[str]) -> str:
        """Mark a batch as sent after all its deliveries, or set it aside; the result is its outcome so far."""
        batch = Batch(series_instance_uid, key)
        return self._outcome(batch, partial(self._release, batch, refusals))

    def enqueue_resending(self, batch: Batch, peer: str, round_: int) -> None:
        """Have a destination be sent what it does not have; if that was begun in this round already, nothing happens.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it.
        """
        identity = _identity(batch, "again", str(round_), "to", peer)
        with not_waiting("takes no delivery"):
            enqueue(DELIVERIES, identity, self.resend, batch.series_instance_uid, batch.key, peer, partition=peer)

    @workflow("resending")
    def resend(self, series_instance_uid: str, key: str, peer: str) -> str:
        """Send a destination what it does not have; the result is why it refused, or nothing."""
        batch = Batch(series_instance_uid, key)
        with _series_in_log(batch):
            lacking = self._step("audit", self._audit.begin_resending, batch, peer)
            refusal = self._refusal(batch, peer, partial(self._step, "resend", self._steps.resend, batch, peer))
            self._step("audit", self._audit.resent, batch, peer, lacking, refusal)
            if refusal:
                self._step("refuse", self._steps.refuse, batch, peer, refusal)
        return refusal

    def _outcome(self, batch: Batch, work: Callable[[], str]) -> str:
        with _series_in_log(batch):
            return self._known_outcome(batch, work)

    def _known_outcome(self, batch: Batch, work: Callable[[], str]) -> str:
        try:
            outcome = work()
        except IgnoreSeriesError as error:
            outcome = self._ignore(batch, str(error))
        except QuarantineSeriesError as error:
            outcome = self._quarantine(batch, str(error))
        except DatabaseError:
            raise  # nothing is wrong with the batch: see stranded_workflows
        except Exception as error:  # noqa: BLE001 - the workflow's edge: an unforeseen fault must not lose the series
            _log.exception("batch.unforeseen_fault", batch=batch.key)
            outcome = self._quarantine(batch, _unforeseen(error))
        if outcome not in (_SENDING, _SENT):
            self._metrics.batches.labels(outcome).inc()
            _log.info("batch.ended", batch=batch.key, outcome=outcome)
        return outcome

    def _make(self, batch: Batch) -> str:
        self._step("audit", self._audit.received, batch)
        rule, series_uids, files = self._step("check", self._steps.check, batch)
        for file in files:
            self._step("derive", self._steps.derive, batch, rule, series_uids, file)
        self._step("judge", self._steps.judge, batch, rule, files)
        made = [(series_uid, len(files)) for series_uid in series_uids]
        made += self._step("evidence", self._steps.evidence, batch, rule, files)
        self._begin_deliveries(batch, rule, made)
        return _SENDING

    def _begin_deliveries(self, batch: Batch, rule: BegunRule, made: Sequence[tuple[str, int]]) -> None:
        # A step of its own: with other destinations after a restart, one delivery would be taken for another one.
        series_uids = [series_uid for series_uid, _ in made]
        peers = self._step("destinations", self._steps.destinations, batch, rule, series_uids)
        for peer in peers:
            arguments = batch.series_instance_uid, batch.key, peer, peers, made
            enqueue(DELIVERIES, _identity(batch, "to", peer), self.deliver, *arguments, partition=peer)

    def _send(self, batch: Batch, peer: str, made: Sequence[tuple[str, int]]) -> None:
        """Send series by series, so that who refuses evidence has the images."""
        for series_uid, count in made:
            self._step("send", self._steps.send, batch, peer, series_uid, count)

    def _refusal(self, batch: Batch, peer: str, sending: Callable[[], None]) -> str:
        """Why a destination refused what was sent to it, or nothing."""
        try:
            sending()
        except QuarantineSeriesError as error:
            return str(error)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001 - it must be told, or the batch would never end
            _log.exception("delivery.unforeseen_fault", batch=batch.key, peer=peer)
            return _unforeseen(error)
        return ""

    def _release(self, batch: Batch, refusals: Sequence[str]) -> str:
        if refusals:
            raise QuarantineSeriesError("; ".join(dict.fromkeys(refusals)))
        self._step("release", self._steps.release, batch)
        return _SENT

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
        self._shutdown.check()
        return step(name, partial(self._until_done, name, work), *arguments)

    def _until_done(self, name: str, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do the work again, with back-off, for as long as it asks for that.

        The waiting is inside the step: the engine records a step when it is done, so a node that
        restarts in the middle of an outage tries at once.
        """
        wait_seconds = self._first_retry_seconds
        while True:
            started = time.monotonic()
            try:
                return work(*arguments)
            except RetryLaterError as error:
                _log.warning("step.put_off", step=name, reason=str(error), wait_seconds=wait_seconds)
            except IsclNodeError:
                raise
            except Exception as error:  # noqa: BLE001 - the engine keeps what is raised: it may quote patient data
                _log.exception("step.unforeseen_fault", step=name)
                raise QuarantineSeriesError(_unforeseen(error)) from None
            finally:
                self._metrics.step_seconds.labels(name).observe(time.monotonic() - started)
            self._metrics.retries.labels(name).inc()
            self._shutdown.wait(wait_seconds)
            wait_seconds = min(2 * wait_seconds, self._last_retry_seconds)


def _series_in_log(batch: Batch) -> AbstractContextManager[object]:
    return structlog.contextvars.bound_contextvars(series_uid=batch.series_instance_uid)  # hashed in the log


def _identity(batch: Batch, *part: str) -> str:
    """The identity of a workflow of the batch: of its first, or of a further part of it."""
    return "/".join([batch.workflow_id, STEP_ORDER_VERSION, *part])


def _refusals(batch: Batch, peers: Sequence[str]) -> list[str] | None:
    """Why destinations refused the batch, in the order of the destinations; None while a delivery goes on.

    Raises
    ------
    RetryLaterError
        If the workflow database does not answer.
    """
    try:
        told = [all_said(_identity(batch, "to", peer)) for peer in peers]
    except DatabaseError as error:
        raise RetryLaterError(f"the workflow database does not answer: {type(error).__name__}") from error
    if not all(_REFUSAL in each for each in told):
        return None
    return [each[_REFUSAL] for each in told if each[_REFUSAL]]


def _unforeseen(error: Exception) -> str:
    return f"unforeseen fault: {type(error).__name__}; the log says where"
