"""Callers who were not let in: one message for each and minute, however often they try."""

import threading
import time
from collections.abc import Callable

_AGAIN_SECONDS = 60.0
_CALLERS = 1000
"""The most callers that are counted apart within a minute; further names of a host are counted as one caller."""

Caller = tuple[str, str, str]
"""Host, AE title (empty where it is not known) and reason."""


class RefusedCallers:
    """Reports the first refusal of a caller at once, and further ones within the minute as a number.

    Parameters
    ----------
    tell : callable
        Called with host, AE title, reason, and the number of refusals since the call before.
    clock : callable
        Seconds, from any start.
    """

    def __init__(self, tell: Callable[[str, str, str, int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[Caller, tuple[float, int]] = {}

    def refused(self, host: str, ae_title: str, reason: str) -> None:
        """Take note of a refusal."""
        with self._lock:
            caller = host, ae_title, reason
            if caller not in self._told and len(self._told) >= _CALLERS:
                caller = host, "", reason
            if caller in self._told:
                since, more = self._told[caller]
                self._told[caller] = since, more + 1
                return
            self._told[caller] = self._clock(), 0
        self._tell(*caller, 0)

    def tick(self) -> None:
        """Report callers that were refused again within the minute, and drop the others."""
        with self._lock:
            now = self._clock()
            ripe = {caller: more for caller, (since, more) in self._told.items() if now - since >= _AGAIN_SECONDS}
            for caller, more in ripe.items():
                del self._told[caller]
                if more:
                    self._told[caller] = now, 0
        for caller, more in ripe.items():
            if more:
                self._tell(*caller, more)
