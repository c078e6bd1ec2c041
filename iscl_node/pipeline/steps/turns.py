"""Who uses the device next: one series at a time, the urgent first."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

Order = tuple[int, str]
"""Priority, lower first, and what decides among equals: when the series was closed."""


class Turns:
    """Lets one thread at a time use what there is one of; of those that wait, the first in order."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._waiting: list[Order] = []
        self._is_taken = False

    @contextmanager
    def turn(self, order: Order) -> Iterator[None]:
        """Wait for the turn, and have it for the length of a ``with`` block."""
        with self._change:
            self._waiting.append(order)
            self._change.wait_for(lambda: not self._is_taken and min(self._waiting) == order)
            self._waiting.remove(order)
            self._is_taken = True
        try:
            yield
        finally:
            with self._change:
                self._is_taken = False
                self._change.notify_all()
