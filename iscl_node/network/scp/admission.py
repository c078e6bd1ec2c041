"""Which connections may stay: counted per host and in total, dropped when they do not become associations in time.

pynetdicom 3.0.4 makes two threads for every connection and keeps them for as long as the peer sends nothing, or half an
A-ASSOCIATE-RQ, so that a few dozen connections keep everybody out. Here a connection is half-open until its association
is admitted. Half-open connections have a number and a time of their own, and a new one takes the place of the oldest of
the host that has most, so a flood of them only ever displaces itself.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pynetdicom.association import Association
from pynetdicom.events import Event

from iscl_node.domain import ReceptionLimits
from iscl_node.network.refusals import Refusal, Refused, shut

_log = structlog.get_logger(__name__)


@dataclass
class _HalfOpen:
    host: str
    connection: socket.socket
    since: float
    association: Association | None = field(default=None)


class Admission:
    """The connections of a server.

    Parameters
    ----------
    limits : ReceptionLimits
        How many, and how long.
    refused : callable
        Called with the reason and the host whenever one is dropped.
    """

    def __init__(self, limits: ReceptionLimits, refused: Refused) -> None:
        self._limits = limits
        self._refused = refused
        self._lock = threading.Lock()
        self._half_open: list[_HalfOpen] = []
        self._admitted: list[Association] = []

    def open(self, connection: socket.socket, host: str) -> None:
        """Take a new connection, and drop a half-open one if there are too many."""
        with self._lock:
            self._forget_ended()
            displaced = self._oldest_of_the_most_crowded() if self._is_full() else None
            if displaced is not None:
                self._half_open.remove(displaced)
            self._half_open.append(_HalfOpen(host, connection, time.monotonic()))
        if displaced is not None:
            self._drop(displaced, Refusal.HALF_OPEN)

    def close(self, connection: socket.socket) -> None:
        """Drop a connection that never became an association."""
        with self._lock:
            self._half_open = [each for each in self._half_open if each.connection is not connection]

    def on_connection(self, event: Event) -> None:
        """Note which association a connection belongs to; for pynetdicom's EVT_CONN_OPEN."""
        transport = event.assoc.dul.socket
        with self._lock:
            for each in self._half_open:
                if transport is not None and each.connection is transport.socket:
                    each.association = event.assoc

    def on_connection_closed(self, event: Event) -> None:
        """End an association that was never requested; for pynetdicom's EVT_CONN_CLOSE."""
        if event.assoc.requestor.primitive is None:
            _wake(event.assoc)

    @staticmethod
    def on_aborted(event: Event) -> None:
        """Log an association that was aborted; for pynetdicom's EVT_ABORTED."""
        requestor = event.assoc.requestor
        _log.info("association.aborted", host=_host(event.assoc), calling_ae_title=str(requestor.ae_title).strip())

    def admit(self, association: Association) -> str | None:
        """Admit an association, or say why there are too many (one of `Refusal`)."""
        with self._lock:
            self._forget_ended()
            host = _host(association)
            if len(self._admitted) >= self._limits.associations:
                return Refusal.ALL_ASSOCIATIONS
            if sum(_host(each) == host for each in self._admitted) >= self._limits.associations_per_host:
                return Refusal.HOST_ASSOCIATIONS
            self._half_open = [each for each in self._half_open if each.association is not association]
            self._admitted.append(association)
            return None

    def expire(self) -> None:
        """Drop what has been half-open for too long."""
        oldest = time.monotonic() - self._limits.request_seconds
        for each in self._take(lambda half_open: half_open.since < oldest):
            self._drop(each, Refusal.TOO_LATE)

    def drop_half_open(self) -> None:
        """Drop all that is half-open: the server stops."""
        for each in self._take(lambda _: True):
            _shut(each)

    def _take(self, chosen: Callable[[_HalfOpen], bool]) -> list[_HalfOpen]:
        with self._lock:
            self._forget_ended()
            taken = [each for each in self._half_open if chosen(each)]
            self._half_open = [each for each in self._half_open if each not in taken]
            return taken

    def _is_full(self) -> bool:
        return len(self._half_open) >= self._limits.half_open

    def _oldest_of_the_most_crowded(self) -> _HalfOpen:
        crowd = Counter(each.host for each in self._half_open)
        return min(self._half_open, key=lambda each: (-crowd[each.host], each.since))

    def _forget_ended(self) -> None:
        """Drop the associations whose threads have ended; those that have not started yet are kept."""
        self._half_open = [each for each in self._half_open if each.association is None or _lives(each.association)]
        self._admitted = [each for each in self._admitted if _lives(each)]

    def _drop(self, half_open: _HalfOpen, reason: str) -> None:
        _log.warning("connection.dropped", host=half_open.host, reason=reason)
        self._refused(reason, half_open.host)
        _shut(half_open)


def _lives(association: Association) -> bool:
    return association.ident is None or association.is_alive()


def _host(association: Association) -> str:
    return str(association.requestor.address)


def _shut(half_open: _HalfOpen) -> None:
    shut(half_open.connection)
    if half_open.association is not None:
        _wake(half_open.association)


def _wake(association: Association) -> None:
    """Let the thread that waits for an association request go on as if its time were over; pynetdicom would not."""
    association.dul.to_user_queue.put(None)  # what a time-out gives, too
