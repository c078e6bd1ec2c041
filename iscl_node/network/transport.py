"""What pynetdicom leaves open on a connection: time limits, the length of a PDU, and two TCP options.

pynetdicom 3.0.4 reads as many bytes as a PDU's length field says (up to 4 GiB, before any association exists), waits
without limit for a peer that stops in the middle of a PDU, and leaves Nagle's algorithm on.
"""

import socket
from functools import partial

from pynetdicom.events import Event

MAXIMUM_PDU_LENGTH = 131_072
"""Bytes of a P-DATA-TF PDU we ask peers to send at most (PS3.8 D.1); the fastest of those measured."""

_MAXIMUM_READ_LENGTH = 1_048_576
"""Bytes of any PDU we read. Larger than ours: an A-ASSOCIATE-RQ has no limit of its own (PS3.8 9.3.2)."""

_NETWORK_TIMEOUT_SECONDS = 60.0
"""How long a peer may stop in the middle of a PDU, sent or received."""


def prepare_connection(event: Event) -> None:
    """Bound a new connection; for pynetdicom's EVT_CONN_OPEN, before the first PDU is read."""
    transport = event.assoc.dul.socket
    if transport is None or transport.socket is None:
        return
    connection = transport.socket
    connection.settimeout(_NETWORK_TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport.recv = partial(receive, connection)  # type: ignore[method-assign]  # pynetdicom takes no transport class


def receive(connection: socket.socket, length: int) -> bytearray:
    """Read ``length`` bytes; fewer if the peer closed the connection.

    Raises
    ------
    OSError
        The peer stopped sending, the connection broke, or ``length`` is beyond what a PDU may have.
    """
    if length > _MAXIMUM_READ_LENGTH:
        raise OSError(f"a PDU of {length} bytes was announced, at most {_MAXIMUM_READ_LENGTH} are read")
    received = bytearray(length)
    count = 0
    while count < length:
        _acknowledge_at_once(connection)
        read = connection.recv_into(memoryview(received)[count:])
        if read == 0:
            break
        count += read
    return received[:count]


def _acknowledge_at_once(connection: socket.socket) -> None:
    """Spare senders that use Nagle's algorithm (DCMTK's do) a wait of 40 ms per message; Linux only."""
    quick_acknowledge = getattr(socket, "TCP_QUICKACK", None)
    if quick_acknowledge is not None:
        connection.setsockopt(socket.IPPROTO_TCP, quick_acknowledge, 1)
