"""When a series is complete enough to be processed.

A series is closed when nothing new of it arrived for the quiet time. What arrives later, a late slice,
opens the series again and is closed as a further batch of its own; because derived UIDs are computed
from the source's, the late slice's derived instance joins the derived series that was sent before.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from iscl_node.domain import Batch
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)


class SeriesCloser:
    """Closes quiet series and hands every closed batch to the workflow.

    Parameters
    ----------
    spool : Spool
        Where the series are.
    quiet_seconds : float
        A series with nothing new for this long is closed.
    enqueue : callable
        Starts the durable workflow of a batch; a batch that has one already is left alone.
    """

    def __init__(self, spool: Spool, quiet_seconds: float, enqueue: Callable[[Batch], None]) -> None:
        self._spool = spool
        self._quiet_seconds = quiet_seconds
        self._enqueue = enqueue
        self._enqueued: set[Batch] = set()

    def tick(self) -> None:
        """Close what is quiet and enqueue what is closed; after a restart that is every batch on disk."""
        for series_uid in self._spool.quiet_series(time.time(), self._quiet_seconds):
            self._close(series_uid)
        closed = set(self._spool.closed_batches())
        for batch in sorted(closed - self._enqueued):
            self._enqueue(batch)
        self._enqueued = closed

    def _close(self, series_uid: str) -> None:
        try:
            batch = self._spool.close(series_uid, datetime.now(UTC))
        except OSError as error:  # the other series go on; this one is tried again at the next tick
            _log.error("series.not_closed", series_uid=series_uid, fault=str(error.strerror))
            return
        instances = len(self._spool.instances(batch))
        _log.info("series.closed", series_uid=series_uid, batch=batch.key, instances=instances)
