"""What is done now and then: close quiet series, purge what is old, and measure the spool."""

import threading
import time

import structlog

from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.closing import SeriesCloser
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)

_TICK_SECONDS = 0.5


class Housekeeping:
    """A thread that ticks; a fault in one tick is logged and the next tick tries again.

    Parameters
    ----------
    spool : Spool
        What is measured and purged.
    closer : SeriesCloser
        Ticked first.
    metrics : Metrics
        Gauges of the spool.
    retention_seconds : float
        Delivered batches older than this are deleted.
    """

    def __init__(self, spool: Spool, closer: SeriesCloser, metrics: Metrics, retention_seconds: float) -> None:
        self._spool = spool
        self._closer = closer
        self._metrics = metrics
        self._retention_seconds = retention_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping")
        self.last_tick = time.monotonic()

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the tick in hand."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            try:
                self.tick()
                self.last_tick = time.monotonic()
            except (OSError, RetryLaterError) as error:  # the disk or the database: readiness tells, it may come back
                _log.error("housekeeping.failed", fault=str(error))

    def tick(self) -> None:
        """One round; the gauges go on also when the rest of it fails."""
        try:
            self._closer.tick()
            self._spool.purge_done(self._retention_seconds, time.time())
        finally:
            self._measure()

    def _measure(self) -> None:
        for state, count in self._spool.counts().items():
            self._metrics.spool_batches.labels(state.value).set(count)
        self._metrics.oldest_waiting_seconds.set(self._spool.oldest_waiting(time.time()))
        self._metrics.spool_free_bytes.set(self._spool.free_bytes())
