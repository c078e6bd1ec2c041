"""When a series is closed, and its batch handed to the workflow.

A series is closed when nothing new of it arrived for the quiet time, and `Completeness` finds nothing missing or no
longer waits for it. What arrives later, a late slice, opens the series again and is closed as a further batch of its
own; because derived UIDs are computed from the source's, the late slice's derived instance joins the derived series
that was sent before.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from iscl_node.domain import Batch
from iscl_node.metrics import Metrics
from iscl_node.pipeline.disk_refusals import each_alone
from iscl_node.pipeline.reception.completeness import Closing, Completeness
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)


class SeriesCloser:
    """Closes quiet series and hands every closed batch to the workflow.

    Parameters
    ----------
    spool : Spool
        Where the series are.
    quiet_seconds : float
        A series with nothing new for this long is closed if it is complete.
    completeness : Completeness
        Judges quiet series.
    enqueue : callable
        Starts the durable workflow of a batch; a batch that has one already is left alone.
    metrics : Metrics
        Counts the series.
    """

    def __init__(
        self,
        spool: Spool,
        quiet_seconds: float,
        completeness: Completeness,
        enqueue: Callable[[Batch], None],
        metrics: Metrics,
    ) -> None:
        self._spool = spool
        self._quiet_seconds = quiet_seconds
        self._completeness = completeness
        self._enqueue = enqueue
        self._metrics = metrics
        self._enqueued: set[Batch] = set()

    def tick(self) -> None:
        """Close what is complete and enqueue what is closed; after a restart that is every batch on disk."""
        quiet = self._spool.quiet_series(time.time(), self._quiet_seconds)
        for closing in self._completeness.closings(quiet):
            self._close(closing)
        closed = set(self._spool.closed_batches())
        self._enqueued &= closed
        each_alone(sorted(closed - self._enqueued), self._begin)

    def _begin(self, batch: Batch) -> None:
        self._enqueue(batch)
        self._enqueued.add(batch)

    def _close(self, closing: Closing) -> None:
        series_uid = closing.series_instance_uid
        try:
            batch = self._spool.close(series_uid, datetime.now(UTC), closing.missing if closing.is_quarantined else "")
        except OSError as error:  # the other series go on; this one is tried again at the next tick
            _log.error("series.not_closed", series_uid=series_uid, fault=str(error.strerror))
            return
        self._completeness.forget(series_uid)
        self._metrics.series_closed.labels(closing.completeness).inc()
        told = {"missing": closing.missing} if closing.missing else {}
        instances = len(self._spool.instances(batch))
        _log.info(
            "series.closed",
            series_uid=series_uid,
            batch=batch.key,
            instances=instances,
            completeness=closing.completeness,
            **told,
        )
