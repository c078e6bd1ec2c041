"""Writes a destination's answers to disk as they come: a kill loses that of the instance that is being sent, at most.

A power cut loses a few more: those that are not synced yet.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from iscl_node.domain import Batch, StoreAnswer
from iscl_node.store.records.deliveries import Deliveries

AT_A_TIME: Final = 8
"""Answers that are synced together: a sync of the disk for each would cost more than the sending of small images."""
LONGEST_SECONDS: Final = 1.0
"""How long an answer waits for others to be synced with."""


@contextmanager
def recorded(deliveries: Deliveries, batch: Batch, destination: str) -> Iterator[Callable[[StoreAnswer], None]]:
    """Take answers for the length of a ``with`` block; each is written at once, and durable after
    8 of them or a second, and at the end.

    What the disk refuses is kept in memory, and tried again.

    Raises
    ------
    OSError
        The disk refuses it at the end, or the batch is neither closed nor sent.
    """
    log = _AnswerLog(deliveries, batch, destination)
    try:
        yield log.add
    finally:
        log.close()


class _AnswerLog:
    def __init__(self, deliveries: Deliveries, batch: Batch, destination: str) -> None:
        self._deliveries = deliveries
        self._place = batch, destination
        self._unwritten: list[StoreAnswer] = []
        self._unsynced = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def add(self, answer: StoreAnswer) -> None:
        with self._lock:
            self._unwritten.append(answer)
            self._unsynced += 1
            is_synced = self._unsynced >= AT_A_TIME
            self._try_to_write(is_synced=is_synced)
            if not is_synced and self._timer is None:
                self._timer = threading.Timer(LONGEST_SECONDS, self._sync_in_time)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        with self._lock:
            self._stop_timer()
            if self._unsynced:
                self._write(is_synced=True)

    def _sync_in_time(self) -> None:
        with self._lock:
            self._try_to_write(is_synced=True)

    def _try_to_write(self, *, is_synced: bool) -> None:
        if is_synced:
            self._stop_timer()
        with suppress(OSError):  # raised at the end
            self._write(is_synced=is_synced)

    def _write(self, *, is_synced: bool) -> None:
        self._deliveries.note_answers(*self._place, self._unwritten, is_synced=is_synced)
        self._unwritten = []
        if is_synced:
            self._unsynced = 0

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
