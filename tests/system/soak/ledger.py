"""What happened so far in a soak: shared by all threads of the soak."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

STALL_SECONDS = 300
"""Without any progress for so long the soak has failed: all back-offs of the test's node are below a second."""
_POLL_SECONDS = 0.1
_SECONDS_IN_ALL = 600
_SECONDS_FOR_AN_INSTANCE = 0.5
"""With the line above the end of all patience: ten times what it takes with two cores for the soak alone."""


class Ledger:
    """Counts, what was acknowledged, and whether anybody failed.

    Parameters
    ----------
    instances : int
        How many there are to send.
    """

    def __init__(self, instances: int) -> None:
        self.instances = instances
        self.counts: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self.delivered_part = 0.0
        """How much the node has delivered, from 0 to 1, as far as was looked."""
        self.failed = threading.Event()
        """Set by the first thread that failed, so that the others end, too."""
        self._lock = threading.Lock()
        self._end = time.monotonic() + _SECONDS_IN_ALL + _SECONDS_FOR_AN_INSTANCE * instances

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count."""
        with self._lock:
            self.counts[what] += number

    def acknowledge(self, sop_uids: Iterable[str]) -> None:
        """Remember what was answered with success."""
        with self._lock:
            self.acknowledged.update(sop_uids)

    def acknowledged_part(self) -> float:
        """How much of what there is to send was acknowledged, from 0 to 1."""
        return len(self.acknowledged) / self.instances

    def progress(self) -> float:
        """How much of the work is done, from 0 to 1: sending is the one half, delivering the other."""
        return (self.acknowledged_part() + self.delivered_part) / 2

    def wait_until(self, condition: Callable[[], bool], what: str, progress: Callable[[], object]) -> None:
        """Wait for a condition as long as there is progress, whatever the machine's speed.

        Parameters
        ----------
        condition : callable
            Asked again and again.
        what : str
            What is waited for, in words.
        progress : callable
            Something that changes as long as the work goes on.
        """
        last, since = progress(), time.monotonic()
        while not condition():
            if (now := progress()) != last:
                last, since = now, time.monotonic()
            self.check_patience(since, f"{what}; last {last}")
            time.sleep(_POLL_SECONDS)

    def check_patience(self, since: float, what: str) -> None:
        """Fail when there was no progress since a time (`time.monotonic`, in seconds), or it takes too long in all."""
        if self.failed.is_set():
            pytest.fail(f"another thread failed while this one waited for: {what}")
        if time.monotonic() - since > STALL_SECONDS:
            pytest.fail(f"no progress for {STALL_SECONDS} s while waiting for: {what}")
        if time.monotonic() > self._end:
            pytest.fail(f"the soak took too long; this was waited for: {what}")
