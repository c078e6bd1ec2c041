"""The thread that brings audit messages from the journal to the syslog server, in order, for as long as it takes."""

import threading
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from iscl_node.audit.journal import Journal, Position
from iscl_node.audit.syslog import SyslogConnection
from iscl_node.errors import IsclNodeError
from iscl_node.metrics import Metrics

_log = structlog.get_logger(__name__)

_AT_A_TIME = 500
_SETTLE_SECONDS = 1.0
"""How long the connection must outlive what was sent, and all be acknowledged, until it counts as received: a server
that ends with messages unread resets the connection."""
_POLL_SECONDS = 0.2
_LAST_WAIT_SECONDS = 60.0


class Forwarding:
    """Sends what is in the journal; what may not have arrived is sent again: twice rather than never.

    Parameters
    ----------
    journal : Journal
        Where the messages are.
    connect : callable
        Opens a connection; raises OSError or IsclNodeError if there is none now.
    metrics : Metrics
        Say how much waits, and for how long, also if the thread should have ended.
    first_wait_seconds : float
        Before the first new try; doubles up to a minute.
    """

    def __init__(
        self,
        journal: Journal,
        connect: Callable[[], SyslogConnection],
        metrics: Metrics,
        first_wait_seconds: float = 1.0,
    ) -> None:
        self._journal = journal
        self._connect = connect
        metrics.audit_waiting_bytes.set_function(self._waiting_bytes)
        metrics.audit_oldest_waiting_seconds.set_function(self._oldest_seconds)
        self._first_wait_seconds = first_wait_seconds
        self._stopping = threading.Event()
        self._fault = ""
        self._thread = threading.Thread(target=self._run, name="audit-forwarding", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Send what waits if the server is there, for so long at most; the rest goes after the next start."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        wait_seconds = self._first_wait_seconds
        while True:
            try:
                with self._connect() as connection:
                    wait_seconds = self._first_wait_seconds
                    self._note("")
                    self._forward(connection)
                    return
            except Exception as error:  # noqa: BLE001 - this thread alone sends what waits
                self._note(_told(error))
            if self._stopping.wait(wait_seconds):
                return
            wait_seconds = min(2 * wait_seconds, _LAST_WAIT_SECONDS)

    def _forward(self, connection: SyslogConnection) -> None:
        """Send until the node stops and nothing is left."""
        position = self._journal.position()
        while True:
            is_last_look = self._stopping.is_set()
            connection.has_arrived()  # or it is lost
            batch = self._journal.messages(position, _AT_A_TIME)
            if batch:
                position = self._deliver(connection, batch)
            elif is_last_look:
                return
            else:
                self._stopping.wait(_POLL_SECONDS)

    def _deliver(self, connection: SyslogConnection, batch: list[tuple[Position, bytes]]) -> Position:
        connection.send([line for _, line in batch])
        end = time.monotonic() + _SETTLE_SECONDS
        while not connection.has_arrived() or time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        position = batch[-1][0]
        self._journal.mark_sent(position)
        return position

    def _waiting_bytes(self) -> float:
        return self._journal.bytes_behind(self._journal.position())

    def _oldest_seconds(self) -> float:
        try:
            oldest = self._journal.messages(self._journal.position(), 1)
        except OSError:  # the page of metrics must not fail with it
            return 0.0
        now = time.time()
        return now - _time_of(oldest[0][1], now) if oldest else 0.0

    def _note(self, fault: str) -> None:
        """Say it in the log when it changes, not for as long as it lasts."""
        if fault and fault != self._fault:
            _log.warning("audit.sending_failed", fault=fault)
        if self._fault and not fault:
            _log.info("audit.sending_resumed")
        self._fault = fault


def _time_of(line: bytes, default: float) -> float:
    """When the message of this line was made: its second field (RFC 5424 6)."""
    try:
        return datetime.fromisoformat(line.split(b" ", 2)[1].decode()).timestamp()
    except (IndexError, ValueError):
        return default


def _told(error: Exception) -> str:
    """In words, if they are ours or the operating system's; those of others may quote what they were given."""
    if isinstance(error, IsclNodeError):
        return str(error)
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
