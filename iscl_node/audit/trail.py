"""The audit trail: takes messages from everywhere in the node, and never holds up or fails who brings them."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from errno import EDQUOT
from pathlib import Path

import structlog

from iscl_node.audit.journal import append_line
from iscl_node.audit.schema import AuditMessage
from iscl_node.metrics import Metrics

_log = structlog.get_logger(__name__)

_IN_MEMORY = 1000
"""So many messages wait in memory for a place that does not take them now; further ones are lost, and counted."""
_TICK_SECONDS = 1.0

Append = Callable[[bytes], None]
"""Adds a line durably; raises OSError if it is not there."""


def appending_to(file: Path, max_bytes: int) -> Append:
    """Return what appends lines to a file; others may move the file away, then a new one is made.

    Raises (the returned function)
    ------------------------------
    OSError
        The line is not there; EDQUOT where it would exceed ``max_bytes``.
    """

    def append(line: bytes) -> None:
        size = file.stat().st_size if file.exists() else 0
        if size + len(line) + 1 > max_bytes:
            raise OSError(EDQUOT, os.strerror(EDQUOT))
        append_line(file, line)

    return append


class Trail:
    """Writes each message to every place before `record` returns, if the place takes it now.

    What a place does not take waits in memory, in order, and is tried again every second. When too much waits, the
    newest messages are lost; the first message after such a gap says how many.

    Parameters
    ----------
    places : mapping of str to Append
        By what the log calls them.
    line_of : callable
        How a message is written.
    resumed : callable
        Makes the message after a gap, of the number of messages lost.
    metrics : Metrics
        Counts what is recorded, waits in memory, and is lost.
    ticked : callable
        Called every second, too, from the same thread.
    """

    def __init__(
        self,
        places: dict[str, Append],
        line_of: Callable[[AuditMessage], bytes],
        resumed: Callable[[int], AuditMessage],
        metrics: Metrics,
        ticked: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._places = [_Place(name, append, lambda lost: line_of(resumed(lost))) for name, append in places.items()]
        self._line_of = line_of
        self._metrics = metrics
        self._ticked = ticked
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-trail", daemon=True)

    def start(self) -> None:
        """Begin to try again what could not be written."""
        self._thread.start()

    def stop(self) -> None:
        """Try for the last time."""
        self._stopping.set()
        self._thread.join()
        self._write()

    def record(self, message: AuditMessage) -> None:
        """Take a message."""
        line = self._line_of(message)
        self._metrics.audit_messages.labels(message.event.code.meaning).inc()
        with self._lock:
            for place in self._places:
                if not place.add(line):
                    self._metrics.audit_lost.inc()
        self._write()

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            for tick in self._ticked:
                tick()
            self._write()

    def _write(self) -> None:
        with self._lock:
            for place in self._places:
                place.write()
            self._metrics.audit_unwritten.set(sum(place.waiting for place in self._places))


class _Place:
    """One place to write to, and what waits for it."""

    def __init__(self, name: str, append: Append, gap_line: Callable[[int], bytes]) -> None:
        self._name = name
        self._append = append
        self._gap_line = gap_line
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._fault = ""

    @property
    def waiting(self) -> int:
        """How many messages wait in memory."""
        return len(self._lines)

    def add(self, line: bytes) -> bool:
        """Take a line, unless too many wait."""
        if len(self._lines) >= _IN_MEMORY:
            self._lost += 1
            return False
        if self._lost:
            self._lines.append(self._gap_line(self._lost))
            self._lost = 0
        self._lines.append(line)
        return True

    def write(self) -> None:
        """Write what waits, until the place takes no more."""
        fault = ""
        while self._lines and not fault:
            try:
                self._append(self._lines[0])
                self._lines.popleft()
            except Exception as error:  # noqa: BLE001 - the caller goes on, and the message waits
                fault = str(getattr(error, "strerror", None) or type(error).__name__)
        if not self._lines and self._lost and not fault:
            self._lines.append(self._gap_line(self._lost))
            self._lost = 0
            self.write()
            return
        if fault and fault != self._fault:
            _log.error("audit.not_written", place=self._name, fault=fault, waiting=len(self._lines))
        if self._fault and not fault:
            _log.info("audit.writing_resumed", place=self._name)
        self._fault = fault
