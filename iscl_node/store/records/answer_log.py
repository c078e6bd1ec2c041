"""Writes a destination's answers to disk while they come, so that a kill loses a few of them at most."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from iscl_node.domain import Batch, StoreAnswer
from iscl_node.store.records.deliveries import Deliveries

AT_A_TIME: Final = 8
"""Answers that are written together: a sync of the disk for each would cost more than the sending of small images."""
LONGEST_SECONDS: Final = 1.0
"""How long an answer waits for others."""


@contextmanager
def recorded(deliveries: Deliveries, batch: Batch, destination: str) -> Iterator[Callable[[StoreAnswer], None]]:
    """Take answers for the length of a ``with`` block; each is durable after 8 of them or a second, and at the end.

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
        self._waiting: list[StoreAnswer] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def add(self, answer: StoreAnswer) -> None:
        with self._lock:
            self._waiting.append(answer)
            if len(self._waiting) >= AT_A_TIME:
                self._try_to_write()
            elif self._timer is None:
                self._timer = threading.Timer(LONGEST_SECONDS, self._write_in_time)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        with self._lock:
            self._stop_timer()
            self._write()

    def _write_in_time(self) -> None:
        with self._lock:
            self._try_to_write()

    def _try_to_write(self) -> None:
        self._stop_timer()
        with suppress(OSError):  # raised at the end
            self._write()

    def _write(self) -> None:
        self._deliveries.note_answers(*self._place, self._waiting)
        self._waiting = []

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
