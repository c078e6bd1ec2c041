"""What pynetdicom leaves open on a connection: time limits, the length of a PDU, and two TCP options.

Replaces ``AssociationSocket.recv``. pynetdicom 3.0.4 reads as many bytes as a PDU's length field says (up to 4 GiB,
before any association exists), waits without limit for a peer that stops in the middle of a PDU, and leaves Nagle's
algorithm on.
"""

import socket
import struct
import time

import structlog
from pynetdicom.events import Event

from iscl_node.network.refusals import Refusal, Refused, shut

MAXIMUM_PDU_LENGTH = 131_072
"""Bytes of a P-DATA-TF PDU we ask peers to send at most (PS3.8 D.1); the fastest of those measured."""

_PDU_LENGTH_SLACK = 1_024
"""Some peers count the six bytes of the header, too, or the headers of the items."""

_MAXIMUM_ASSOCIATION_PDU_LENGTH = 262_144
"""Bytes of any other PDU. An A-ASSOCIATE-RQ has no limit of its own (PS3.8 9.3.2); 128 presentation contexts, the most
there can be, with the 40 transfer syntaxes of the standard are 150 000 bytes."""

PDU_SECONDS = 60.0
"""How long one PDU may take, sent or received: 128 KiB at 18 kbit/s."""

_HEADER_LENGTH = 6
_PDU_TYPES = range(0x01, 0x08)
_P_DATA_TF = 0x04

_log = structlog.get_logger(__name__)


def _log_only(_reason: str, _host: str) -> None:
    """Count nothing: as a requestor we chose the peer."""


def prepare_connection(event: Event, refused: Refused = _log_only, seconds: float = PDU_SECONDS) -> None:
    """Bound a new connection; for pynetdicom's EVT_CONN_OPEN, before the first PDU is read."""
    transport = event.assoc.dul.socket
    if transport is None or transport.socket is None:
        return
    connection = transport.socket
    connection.settimeout(seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # pynetdicom takes no transport class.
    transport.recv = PduReader(connection, str(event.assoc.remote["address"]), refused, seconds).recv  # type: ignore[method-assign]


class PduReader:
    """Reads the bytes of PDUs as pynetdicom asks for them: a header, then as many bytes as it announces.

    Where a limit is broken the connection is ended, and fewer bytes are returned, as at any other end.

    Parameters
    ----------
    connection : socket.socket
        With a time-out of its own, for each read.
    host : str
        Whose it is.
    refused : callable
        Called with the reason and the host when a limit is exceeded.
    seconds : float
        How long the header, and how long the rest of a PDU, may take.
    """

    def __init__(self, connection: socket.socket, host: str, refused: Refused, seconds: float) -> None:
        self._connection = connection
        self._refused = refused
        self._seconds = seconds
        self._host = host
        self._header_is_next = True
        self._is_over = False

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes; fewer if the connection came to its end."""
        if self._is_over:
            return bytearray()
        if not self._header_is_next:
            self._header_is_next = True
            return self._read(nr_bytes)
        header = self._read(_HEADER_LENGTH)
        if len(header) < _HEADER_LENGTH:
            return header
        pdu_type, pdu_length = struct.unpack(">BxL", header)
        if pdu_length > _longest(pdu_type):
            self._end(Refusal.PDU_TOO_LONG, pdu_length=pdu_length)
            return bytearray()
        self._header_is_next = False
        self._is_over = pdu_type not in _PDU_TYPES  # what follows the header of no PDU has no known end
        return header

    def _read(self, length: int) -> bytearray:
        end = time.monotonic() + self._seconds
        received = bytearray(length)
        count = 0
        while count < length:
            if time.monotonic() >= end:
                self._end(Refusal.PDU_TOO_SLOW, seconds=self._seconds)
                break
            try:
                _acknowledge_at_once(self._connection)
                read = self._connection.recv_into(memoryview(received)[count:])
            except TimeoutError:
                continue
            except OSError:
                break
            if read == 0:
                break
            count += read
        return received[:count]

    def _end(self, reason: str, **details: float) -> None:
        _log.warning("connection.dropped", host=self._host, reason=reason, **details)
        self._refused(reason, self._host)
        shut(self._connection)


def _longest(pdu_type: int) -> int:
    return MAXIMUM_PDU_LENGTH + _PDU_LENGTH_SLACK if pdu_type == _P_DATA_TF else _MAXIMUM_ASSOCIATION_PDU_LENGTH


def _acknowledge_at_once(connection: socket.socket) -> None:
    """Spare senders that use Nagle's algorithm (DCMTK's do) a wait of 40 ms per message; Linux only."""
    quick_acknowledge = getattr(socket, "TCP_QUICKACK", None)
    if quick_acknowledge is not None:
        connection.setsockopt(socket.IPPROTO_TCP, quick_acknowledge, 1)
