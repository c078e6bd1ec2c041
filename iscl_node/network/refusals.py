"""Why a connection is refused, and how one is ended."""

import contextlib
import socket
from collections.abc import Callable


class Refusal:
    """Why a connection is refused; the values are labels of a metric."""

    HALF_OPEN = "too many half-open connections"
    TOO_LATE = "no association request in time"
    HANDSHAKE = "TLS handshake failed"
    ALL_ASSOCIATIONS = "too many associations"
    HOST_ASSOCIATIONS = "too many associations of one host"
    PDU_TOO_LONG = "PDU too long"
    PDU_TOO_SLOW = "PDU too slow"
    COMMAND_TOO_LONG = "command set too long"
    NO_PDU = "not a PDU"
    NO_MESSAGE = "not a DIMSE message"
    NO_CONTROL_HEADER = "fragment without message control header"
    NOT_WAITING = "requests without waiting for responses"
    CALLING_AE_TITLE = "calling AE title"
    CALLED_AE_TITLE = "called AE title"
    HOST = "host of the calling AE title"
    SERVICE = "service"
    USER = "user identity"
    NOT_JUDGED = "an error of the node"


Refused = Callable[[str, str], None]
"""Called with a reason of `Refusal` and the host that is refused."""


def shut(connection: socket.socket) -> None:
    """End a connection so that a thread that reads from it, or is in its TLS handshake, finds its end."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket's own would take the handshake's state away
