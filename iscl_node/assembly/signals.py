"""The signals that the process is sent."""

import signal
from queue import SimpleQueue
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

_GO_ON: Final = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""A terminal is closed, or logs are rotated. There is nothing to read again: the log is standard error, certificates
are read when they change, settings at the start."""


class Signals:
    """Those that came since it was made."""

    def __init__(self) -> None:
        self._numbers: SimpleQueue[int] = SimpleQueue()
        for each in (signal.SIGTERM, signal.SIGINT, *_GO_ON):
            signal.signal(each, lambda number, _: self._numbers.put(number))

    def end(self) -> None:
        """Have the node stop, as SIGTERM does."""
        self._numbers.put(signal.SIGTERM)

    def wait_for_the_end(self) -> None:
        """Return when the node is to stop."""
        while (number := self._numbers.get()) in _GO_ON:
            _log.info("signal.received", signal=signal.Signals(number).name)
