"""Syslog over TLS (RFC 5424 and RFC 5425), as PS3.15 A.6 profiles it for audit messages; plain TCP without TLS."""

import fcntl
import os
import socket
import ssl
import termios
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Final

from iscl_node.audit.schema import AuditMessage, Outcome, encoded

_SECURITY: Final = 10
_NOTICE, _WARNING = 5, 4
"""Facility and severities of RFC 5424 6.2.1, those that PS3.15 A.6 names."""
_APP_NAME: Final = b"iscl-node"
_MSGID: Final = b"DICOM+RFC3881"
_BOM: Final = b"\xef\xbb\xbf"
"""Before text in UTF-8 (RFC 5424 6.4)."""
_NIL: Final = b"-"
_HOST_NAME_LENGTH: Final = 255

_INT_BYTES: Final = 4
"""What the kernel writes the number of unacknowledged bytes into (tcp(7), SIOCOUTQ)."""
_CONNECT_SECONDS: Final = 20
_UNANSWERED_MILLISECONDS: Final = 30_000
"""After so long without an answer of the server's TCP the connection is lost (RFC 5482)."""


def syslog_line(message: AuditMessage, host_name: str) -> bytes:
    """The SYSLOG-MSG of an audit message (RFC 5424 6), in one line."""
    event = message.event
    severity = _NOTICE if event.outcome is Outcome.SUCCESS else _WARNING
    time = event.time.astimezone().isoformat(timespec="microseconds").encode()
    printable = bytes(each for each in host_name.encode("ascii", "ignore") if 33 <= each <= 126)[:_HOST_NAME_LENGTH]
    header = [b"<%d>1" % (8 * _SECURITY + severity), time, printable or _NIL, _APP_NAME, b"%d" % os.getpid(), _MSGID]
    return b" ".join([*header, _NIL, _BOM + encoded(message)])


def framed(line: bytes) -> bytes:
    """A SYSLOG-FRAME: the number of octets, then the message (RFC 5425 4.3)."""
    return b"%d %b" % (len(line), line)


class SyslogConnection:
    """A connection to a syslog server; to be used in a ``with`` statement.

    Parameters
    ----------
    host : str
        Name or address.
    port : int
        6514 is that of syslog over TLS (RFC 5425 4.1).
    context : callable or None
        Gives the context of the TLS handshake, for each connection anew; None for no TLS.
    server_name : str
        What the server's certificate is compared with.

    Raises
    ------
    OSError
        There is no connection.
    """

    def __init__(
        self, host: str, port: int, context: Callable[[], ssl.SSLContext] | None = None, server_name: str = ""
    ) -> None:
        self._socket: socket.socket = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        with ExitStack() as on_failure:
            on_failure.callback(self._socket.close)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MILLISECONDS)
            if context is not None:
                self._socket = context().wrap_socket(self._socket, server_hostname=server_name or host)
            on_failure.pop_all()

    def __enter__(self) -> "SyslogConnection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection, with the close_notify that RFC 5425 4.4 asks for."""
        with suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket) and error is None:
                self._socket.settimeout(1)
                self._socket.unwrap()
        self._socket.close()

    def send(self, lines: Sequence[bytes]) -> None:
        """Hand messages to the operating system.

        Raises
        ------
        OSError
            The connection is lost; some may have arrived.
        """
        self._socket.settimeout(_CONNECT_SECONDS)
        self._socket.sendall(b"".join(map(framed, lines)))

    def has_arrived(self) -> bool:
        """Whether the server's TCP has acknowledged all that was sent, and the connection still stands.

        There is no acknowledgement in RFC 5425: this is as much as a sender can know.

        Raises
        ------
        OSError
            The connection is lost.
        """
        self._require_open()
        unacknowledged = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(_INT_BYTES))
        return not any(unacknowledged)

    def _require_open(self) -> None:
        self._socket.settimeout(0)
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            if not self._socket.recv(1024):
                raise ConnectionResetError("the syslog server closed the connection")
