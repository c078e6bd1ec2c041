"""Makes the workflow engine agree with the spool: begins what the spool asks for and the engine lacks.

It starts what an earlier release left, heals what failed, and rebuilds what a lost database knew. As long as nothing
went wrong it begins nothing.
"""

import time
import uuid
from collections.abc import Collection, Mapping

import structlog

from iscl_node.domain import Batch
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.disk_refusals import each_alone
from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.idle import IdleWorkflows
from iscl_node.pipeline.engine.words import find, under_way, wake
from iscl_node.pipeline.workflows.batch import REPORT, SeriesWorkflow, place_of, series_identity

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
        What is begun.
    concluding : Concluding
        Brings batches to their end.
    idle : IdleWorkflows
        Those that this worker claimed and does not run.
    metrics : Metrics
        Counts what is begun again.
    longest_delay_seconds : float
        No workflow is delayed for longer; one that seems to be is, because the clock was set back, woken.
    """

    def __init__(
        self,
        destinations: Destinations,
        workflow: SeriesWorkflow,
        concluding: Concluding,
        idle: IdleWorkflows,
        metrics: Metrics,
        longest_delay_seconds: float,
    ) -> None:
        self._destinations = destinations
        self._spool, self._deliveries = destinations.spool, destinations.deliveries
        self._workflow = workflow
        self._concluding = concluding
        self._idle = idle
        self._metrics = metrics
        self._longest_delay_seconds = longest_delay_seconds
        self._has_woken = False

    def begin(self, batch: Batch) -> None:
        """Begin the workflow of a batch that is closed, unless its delivery has begun; or that of a further delivery.

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
        """Begin what is lacking, and say how many workflows that were.

        Raises
        ------
        RetryLaterError
            If the workflow database, or the disk, refuses it.
        """
        batches = self._spool.batches_under_way()  # before the workflows: one that is closed meanwhile is begun already
        resumed = self.resume_idle()
        with not_waiting("tells nothing"):
            work = under_way()
            self._wake([each.identity for each in work if each.name == REPORT and each.due is not None])
            self._wake_late({each.identity: each.due for each in work if each.due is not None})
        busy = {place_of(each)[:2] for each in work}
        begun: list[int] = []
        try:
            idle = (batch for batch in batches if (batch, "") not in busy)
            each_alone(idle, lambda batch: begun.append(self._batch(batch, busy)))
        finally:
            if sum(begun):
                _log.warning("workflow.begun_again", workflows=sum(begun))
        self._measure(batches)
        return sum(begun) + resumed

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
        """Ask anew, once after a start: a report may have come while nobody listened."""
        if not self._has_woken:
            for identity in reports:
                wake(identity)
        self._has_woken = True

    def _wake_late(self, due: Mapping[str, float]) -> None:
        latest = time.time() + self._longest_delay_seconds
        for identity in (identity for identity, seconds in due.items() if seconds > latest):
            wake(identity)

    def _batch(self, batch: Batch, busy: Collection[Place]) -> int:
        if not self._deliveries.is_under_way(batch):  # it came to its end meanwhile
            return 0
        names = self._deliveries.destinations(batch)
        if not names and not self._spool.is_sent(batch):
            return self._begin_again(batch)
        lacking = [name for name in names if (batch, name) not in busy and self._destinations.end(batch, name) is None]
        with not_waiting("takes no delivery"):
            for name in lacking:
                round_ = self._destinations.record(batch, name).rounds
                self._workflow.enqueue_delivery(batch, name, round_, _fresh_run())
        self._concluding.settle(batch)
        return len(lacking)

    def _begin_again(self, batch: Batch) -> int:
        """Begin the workflow of a batch anew, its first run having ended, or for the first time."""
        with not_waiting("takes no batch"):
            was_begun = find(series_identity(batch)) is not None
        self._workflow.enqueue(batch, *([_fresh_run()] if was_begun else []))
        return int(was_begun)

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


def _fresh_run() -> str:
    return uuid.uuid4().hex[:12]
