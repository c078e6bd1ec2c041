"""Makes the workflow engine agree with the spool: begins what the spool asks for and the engine lacks.

It starts what an earlier release left, heals what failed, and rebuilds what a lost database knew. As long as nothing
went wrong it begins nothing.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import structlog

from iscl_node.domain import Batch
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.disk_refusals import each_alone
from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.idle import IdleWorkflows
from iscl_node.pipeline.engine.words import Work, under_way, wake
from iscl_node.pipeline.workflows.batch import REPORT, SeriesWorkflow, place_of

_log = structlog.get_logger(__name__)

Place = tuple[Batch, str]
"""A batch, and a destination of it or nothing."""


class Reconcile:
    """Compares the spool with the engine.

    Parameters
    ----------
    destinations : Destinations
        What is in the spool.
    workflow : SeriesWorkflow
        What is started.
    concluding : Concluding
        Brings batches to their end.
    idle : IdleWorkflows
        Those that this worker claimed and does not run.
    metrics : Metrics
        Counts what is started again.
    longest_delay_seconds : float
        No workflow is delayed for longer; one that seems to be is, because the clock was set back, woken.
    leads : callable, optional
        Whether this worker does what only one may do; once it does no more, nothing is started again.
    """

    def __init__(
        self,
        destinations: Destinations,
        workflow: SeriesWorkflow,
        concluding: Concluding,
        idle: IdleWorkflows,
        metrics: Metrics,
        longest_delay_seconds: float,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._destinations = destinations
        self._spool, self._deliveries = destinations.spool, destinations.deliveries
        self._workflow = workflow
        self._concluding = concluding
        self._idle = idle
        self._metrics = metrics
        self._longest_delay_seconds = longest_delay_seconds
        self._leads = leads
        self._has_woken = False

    def begin(self, batch: Batch) -> None:
        """Begin the workflow of a batch that is closed, unless its delivery has started; or that of a further delivery.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it.
        """
        names = self._deliveries.destinations(batch)
        if not names:
            self._workflow.enqueue(batch)
        for name in names:
            again = self._destinations.record(batch, name).again
            if again and self._destinations.end(batch, name) is None:
                with not_waiting("takes no delivery"):
                    self._workflow.enqueue_delivery(batch, name, 0, f"again-{again}")

    def reconcile(self) -> int:
        """Start the missing workflows, and return their number.

        Raises
        ------
        RetryLaterError
            If the workflow database, or the disk, refuses it.
        """
        batches = self._spool.batches_under_way()  # before the workflows: one closed after this has started already
        resumed = self.resume_idle()
        work = self._work()
        with not_waiting("does not answer"):
            self._wake([each.identity for each in work if each.name == REPORT and each.due is not None])
            self._wake_late({each.identity: each.due for each in work if each.due is not None})
        busy, suspects = _busy(work), list[Batch]()
        try:
            each_alone(batches, lambda batch: self._look(batch, busy, suspects))
        finally:
            begun = self._begin_again(suspects)
        self._measure(batches)
        return begun + resumed

    def resume_idle(self) -> int:
        """Go on with what this worker claimed and does not run, and say how many workflows that were.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it.
        """
        with not_waiting("resumes nothing"):
            return self._idle.resume()

    def _wake(self, reports: Collection[str]) -> None:
        """Ask anew, once after a start: a report may have come while the node was down."""
        if not self._has_woken:
            for identity in reports:
                wake(identity)
        self._has_woken = True

    def _wake_late(self, due: Mapping[str, float]) -> None:
        latest = time.time() + self._longest_delay_seconds
        for identity in (identity for identity, seconds in due.items() if seconds > latest):
            wake(identity)

    def _work(self) -> Sequence[Work]:
        with not_waiting("does not answer"):
            return under_way()

    def _look(self, batch: Batch, busy: Collection[Place], suspects: list[Batch]) -> None:
        """Start what closing the batch, or a person, should have started; what has started stays as it is."""
        if self._lacking(batch, busy):
            suspects.append(batch)
            self.begin(batch)
        if (batch, "") not in busy:
            self._concluding.settle(batch)

    def _begin_again(self, suspects: Sequence[Batch]) -> int:
        """Start again what is still missing after its first run ended, and return the number.

        What was started since the first look is seen now: nothing starts twice.
        """
        busy = _busy(self._work()) if suspects else frozenset[Place]()
        begun: list[str] = []
        try:
            each_alone(suspects, lambda batch: begun.extend(self._begin_lacking(batch, busy)))
        finally:
            if begun:
                _log.warning("workflow.restarted", workflows=len(begun))
        return len(begun)

    def _begin_lacking(self, batch: Batch, busy: Collection[Place]) -> Iterator[str]:
        for name in self._lacking(batch, busy) if self._leads() else ():
            if name:
                with not_waiting("takes no delivery"):
                    rounds = self._destinations.record(batch, name).rounds
                    self._workflow.enqueue_delivery(batch, name, rounds, _fresh_run())
            else:
                self._workflow.enqueue(batch, _fresh_run())
            yield name

    def _lacking(self, batch: Batch, busy: Collection[Place]) -> Sequence[str]:
        """The destinations for which nothing is under way; or an empty name, if the derived objects are not made."""
        if (batch, "") in busy or not self._deliveries.is_under_way(batch):  # it has ended
            return []
        names = self._deliveries.destinations(batch)
        if not names:
            return [] if self._spool.is_sent(batch) else [""]
        return [name for name in names if (batch, name) not in busy and self._destinations.end(batch, name) is None]

    def _measure(self, batches: Collection[Batch]) -> None:
        """Count the batches that a destination takes and shows nothing of."""
        stopped = dict.fromkeys(self._destinations.peers, 0)
        for batch in batches:
            for name in self._deliveries.destinations(batch):
                record = self._destinations.record(batch, name)
                if record.is_stopped and name in stopped:
                    stopped[name] += 1
        for name, count in stopped.items():
            self._metrics.stopped_deliveries.labels(name).set(count)


def _busy(work: Iterable[Work]) -> frozenset[Place]:
    return frozenset(place_of(each)[:2] for each in work)


def _fresh_run() -> str:
    return uuid.uuid4().hex[:12]
