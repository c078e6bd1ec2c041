"""The durable workflow of a batch: the order of its steps, and what happens when one of them fails.

DBOS keeps which steps of a batch are done. A node that was killed in the middle of a step does that step
again when it starts, and none of the finished ones.
"""

import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, TypeVar

import structlog
from dbos import DBOS, DBOSConfig, DBOSConfiguredInstance, SetWorkflowID
from sqlalchemy.exc import SQLAlchemyError

from iscl_node.domain import Batch
from iscl_node.errors import IgnoreSeriesError, IsclNodeError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.shutdown import Shutdown
from iscl_node.pipeline.steps import SeriesSteps

_log = structlog.get_logger(__name__)

APPLICATION = "iscl-node"
QUEUE = "batches"
STEP_ORDER_VERSION = "5"
"""DBOS resumes only workflows of its own version: change it when the order of the steps changes.

It is part of a workflow's identity, so a batch that was begun in another order is begun anew; its derived instances,
as far as they are made, are found in the outbox. The earlier workflow stays in the database and never runs again."""

Result = TypeVar("Result")


@DBOS.dbos_class()
class SeriesWorkflow(DBOSConfiguredInstance):
    """check, derive every instance, judge the whole, make the evidence, send every series everywhere, release.

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
    """

    def __init__(
        self,
        steps: SeriesSteps,
        shutdown: Shutdown,
        metrics: Metrics,
        first_retry_seconds: float,
        last_retry_seconds: float,
    ) -> None:
        super().__init__("series")
        self._steps = steps
        self._shutdown = shutdown
        self._metrics = metrics
        self._first_retry_seconds = first_retry_seconds
        self._last_retry_seconds = last_retry_seconds

    def enqueue(self, batch: Batch) -> None:
        """Start the batch's workflow; if it has one already, in whatever state, nothing happens.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it, for example because its disk is full.
        """
        try:
            with SetWorkflowID(f"{batch.workflow_id}/{STEP_ORDER_VERSION}"):
                DBOS.enqueue_workflow(QUEUE, self.run, batch.series_instance_uid, batch.key)
        except SQLAlchemyError as error:
            raise RetryLaterError(f"the workflow database takes no batch: {type(error).__name__}") from error

    @DBOS.workflow(name="series", max_recovery_attempts=None)  # a long outage may see many restarts
    def run(self, series_instance_uid: str, key: str) -> str:
        """Bring a batch to its end; the result is its outcome."""
        batch = Batch(series_instance_uid, key)
        with structlog.contextvars.bound_contextvars(series_uid=series_instance_uid):  # hashed in the log
            return self._brought_to_end(batch)

    def _brought_to_end(self, batch: Batch) -> str:
        try:
            self._process(batch)
            outcome = "done"
        except IgnoreSeriesError as error:
            outcome = self._ignore(batch, str(error))
        except QuarantineSeriesError as error:
            outcome = self._quarantine(batch, str(error))
        except Exception as error:  # noqa: BLE001 - the workflow's edge: an unforeseen fault must not lose the series
            _log.exception("batch.unforeseen_fault", batch=batch.key)
            outcome = self._quarantine(batch, _unforeseen(error))
        self._metrics.batches.labels(outcome).inc()
        _log.info("batch.ended", batch=batch.key, outcome=outcome)
        return outcome

    def _process(self, batch: Batch) -> None:
        rule, series_uids, files = self._step("check", self._steps.check, batch)
        for file in files:
            self._step("derive", self._steps.derive, batch, rule, series_uids, file)
        self._step("judge", self._steps.judge, batch, rule, files)
        made = [(series_uid, len(files)) for series_uid in series_uids]
        made += self._step("evidence", self._steps.evidence, batch, rule, files)
        self._deliver(batch, rule, made)
        self._step("release", self._steps.release, batch)

    def _deliver(self, batch: Batch, rule: str, made: Sequence[tuple[str, int]]) -> None:
        """Send every series everywhere; a destination that refuses one gets no more, and keeps none from the others."""
        # A step of its own: with other destinations after a restart, one send would be taken for another one.
        peers = self._step("destinations", self._steps.destinations, rule)
        refusals: dict[str, str] = {}
        # Series by series, so that who refuses evidence has the images.
        for (series_uid, count), peer in product(made, peers):
            if peer in refusals:
                continue
            try:
                self._step("send", self._steps.send, batch, peer, series_uid, count)
            except QuarantineSeriesError as error:
                refusals[peer] = str(error)
        if refusals:
            raise QuarantineSeriesError("; ".join(dict.fromkeys(refusals.values())))

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
        return DBOS.run_step({"name": name}, self._until_done, name, work, *arguments)

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


def _unforeseen(error: Exception) -> str:
    return f"unforeseen fault: {type(error).__name__}; the log says where"


def launch_engine(database_url: str, worker_name: str, concurrency: int) -> None:
    """Start DBOS: unfinished workflows of this worker resume at once.

    Every :class:`SeriesWorkflow` must exist before.

    Parameters
    ----------
    database_url : str
        ``sqlite:///...`` or ``postgresql://...``.
    worker_name : str
        Stable name of this worker.
    concurrency : int
        How many batches this worker has in hand at the same time.
    """
    config: DBOSConfig = {
        "name": APPLICATION,
        "system_database_url": database_url,
        "executor_id": worker_name,
        "application_version": STEP_ORDER_VERSION,
        "log_level": "WARNING",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=concurrency, polling_interval_sec=0.5)


def stop_engine(seconds: float) -> None:
    """Wait for the steps in hand, then stop; what is unfinished resumes at the next start."""
    DBOS.destroy(workflow_completion_timeout_sec=int(seconds))
