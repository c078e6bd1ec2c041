"""What is done again and again: close quiet series, make room, purge what is old, and measure the spool.

Of several nodes on one spool one leads, and does what changes the spool.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from iscl_node.domain import SeriesState
from iscl_node.errors import IsclNodeError, text_of
from iscl_node.metrics import Metrics
from iscl_node.pipeline.reception.closing import SeriesCloser
from iscl_node.store.batches.set_aside import REASON_CLASSES, reason_class
from iscl_node.store.inventory import ended_counts, instances_under_way, last_ends
from iscl_node.store.known_folders import KnownFolders
from iscl_node.store.layout import Layout
from iscl_node.store.leaving.retention import Retention, Sizes
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)

_TICK_SECONDS = 0.5
_CLEAN_UP_SECONDS = 60
_TAKEOVER_SECONDS = 1

_CHEAP_SECONDS = 0.005
_REST = 200
"""A look through the spool that takes more processor time than the first is followed by a rest of so many times that:
what waits for an archive costs a node at rest half a hundredth of a core."""
_WAITING_STATES = (SeriesState.CLOSED, SeriesState.SENT, SeriesState.QUARANTINE)


class Housekeeping:
    """A thread that ticks, one that cleans up, which may take minutes on a slow disk, and one that reconciles.

    A task that fails is counted, logged and tried again, and keeps no other from its work.

    Parameters
    ----------
    spool : Spool
        What is measured.
    closer : SeriesCloser
        Ticked first.
    metrics : Metrics
        Gauges of the spool.
    retention : Retention
        Deletes what need not be kept.
    delete_ended : callable
        Deletes what the workflow database need not keep.
    reconcile : callable
        Begins what the spool asks for and the workflow engine lacks; in a thread of its own.
    leads : callable, optional
        Whether this node does what only one may do.
    take_over : callable, optional
        Goes on with the work of nodes that are dead; in a thread of its own, if there may be any.
    known : KnownFolders, optional
        What others looked at before.
    """

    def __init__(
        self,
        spool: Spool,
        closer: SeriesCloser,
        metrics: Metrics,
        retention: Retention,
        delete_ended: Callable[[], int],
        reconcile: Callable[[], object],
        leads: Callable[[], bool] = lambda: True,
        take_over: Callable[[], object] | None = None,
        known: KnownFolders | None = None,
    ) -> None:
        self._spool = spool
        self._closer = closer
        self._metrics = metrics
        self._retention = retention
        self._delete_ended = delete_ended
        self._reconcile = reconcile
        self._leads = leads
        self._layout = Layout(spool.root)
        self._known = known or KnownFolders()
        self._sizes = Sizes(spool.root, self._known)
        self._faults: dict[str, str] = {}
        self._strays: dict[str, int] = {}
        self._next_count = 0.0
        self._ends: list[int] | None = None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(self.tick, _TICK_SECONDS), name="housekeeping"),
            threading.Thread(target=self._repeat, args=(self.clean_up, _CLEAN_UP_SECONDS), name="clean-up"),
            threading.Thread(target=self._repeat, args=(self.reconcile, _CLEAN_UP_SECONDS), name="reconcile"),
        ]
        if take_over is not None:
            attempt = partial(self._attempt, "takeover", take_over)
            name = "takeover"
            self._threads.append(threading.Thread(target=self._repeat, args=(attempt, _TAKEOVER_SECONDS), name=name))
        self.last_tick = time.monotonic()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the running task."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[], object], seconds: float) -> None:
        work()
        while not self._stopping.wait(seconds):
            work()

    def tick(self) -> None:
        """What may not wait; /readyz says when no series could be closed, or the spool not be measured, for long."""
        closed = self._attempt_alone("close", self._closer.tick)
        self._attempt_alone("free_space", self._make_room)
        measured = self._attempt("measure", self._measure)
        if closed and measured:
            self.last_tick = time.monotonic()

    def clean_up(self) -> None:
        """What may take long."""
        self._attempt("promised_space", self._spool.room.measure)
        self._attempt_alone("purge", self._purge)
        self._attempt_alone("strays", self._note_strays)
        self._attempt_alone("sizes", self._measure_sizes)
        self._attempt_alone("contents", self._measure_contents)
        self._attempt_alone("delete_ended_workflows", self._delete_ended)

    def reconcile(self) -> None:
        """What makes the workflow engine agree with the spool."""
        self._attempt("reconcile", self._reconcile)

    def _attempt_alone(self, task: str, work: Callable[[], object]) -> bool:
        """Runs one task if this node leads."""
        return not self._leads() or self._attempt(task, work)

    def _attempt(self, task: str, work: Callable[[], object]) -> bool:
        """Runs one task. Logs an error once, until it changes or the task succeeds."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - one fault must not end this thread, and with it the node's work
            self._metrics.housekeeping_faults.labels(task).inc()
            fault = text_of(error)
            if self._faults.get(task) != fault:
                known = isinstance(error, OSError | IsclNodeError)
                _log.error("housekeeping.failed", task=task, fault=fault, exc_info=None if known else error)
            self._faults[task] = fault
            return False
        if self._faults.pop(task, None) is not None:
            _log.info("housekeeping.recovered", task=task)
        return True

    def _make_room(self) -> None:
        self._note_purged(self._retention.make_room(0, self._spool.room.promised_bytes), "space")

    def _purge(self) -> None:
        self._note_purged(self._retention.purge_old(time.time()), "age")

    def _note_purged(self, batches: int, cause: str) -> None:
        if batches:
            self._metrics.purged_batches.labels(cause).inc(batches)
            _log.info("spool.purged", batches=batches, cause=cause)

    def _note_strays(self) -> None:
        """Log what the spool leaves alone, when it changes; names are left out, because a person gave them."""
        strays = self._spool.strays(self._known)
        if strays and strays != self._strays:
            _log.warning("spool.strays_found", reason="no batch: a link, a file or a foreign name", **strays)
        self._strays = strays

    def _measure(self) -> None:
        self._metrics.spool_free_bytes.set(self._spool.free_bytes())
        if time.monotonic() < self._next_count:
            return
        started = time.thread_time()
        self._count_batches()
        used = time.thread_time() - started
        self._next_count = time.monotonic() + (_REST * used if used > _CHEAP_SECONDS else 0)

    def _count_batches(self) -> None:
        ends = last_ends(self._layout)
        if ends != self._ends:
            self._ends = ends
            self._count_ended()
        for state, count in self._spool.counts(_WAITING_STATES).items():
            self._metrics.spool_batches.labels(state.value).set(count)
        now = time.time()
        self._metrics.oldest_waiting_seconds.set(self._spool.oldest_waiting(now))
        self._metrics.uncommitted_oldest_seconds.set(self._spool.oldest_in(SeriesState.SENT, now))
        self._metrics.quarantine_oldest_seconds.set(self._spool.oldest_in(SeriesState.QUARANTINE, now))

    def _count_ended(self) -> None:
        for state, count in ended_counts(self._layout, self._known).items():
            self._metrics.spool_batches.labels(state.value).set(count)

    def _measure_contents(self) -> None:
        """Count what waits, what is kept, and what a person must decide by the class of its reason."""
        self._count_ended()
        self._metrics.waiting_instances.set(instances_under_way(self._layout))
        counts = Counter(reason_class(each.reason) for each in self._spool.quarantined())
        for name in (*REASON_CLASSES, "other"):
            self._metrics.quarantine_batches.labels(name).set(counts[name])

    def _measure_sizes(self) -> None:
        sizes = self._sizes.by_folder()
        for folder, size in sizes.items():
            self._metrics.spool_bytes.labels(folder).set(size)
        promised_bytes = self._spool.room.promised_bytes
        self._note_purged(self._retention.make_room(sum(sizes.values()), promised_bytes), "space")
