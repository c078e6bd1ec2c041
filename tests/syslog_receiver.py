"""A syslog server that takes SYSLOG-FRAMEs (RFC 5425 4.3), over TLS or plain TCP, and can go away and come back."""

import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO


class SyslogReceiver:
    """Listens, reads frames, and keeps the messages in their order.

    Parameters
    ----------
    port : int
        0 for a free one.
    context : ssl.SSLContext or None
        None for no TLS.
    unread : bool
        Accept connections and read nothing.
    """

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None, unread: bool = False) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.is_closed = False
        self._context = context
        self._unread = unread
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> "SyslogReceiver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Go away: with messages unread, the sender's connection is reset."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join()
        self.is_closed = True

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):  # ValueError: what came is no frame
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            if self._unread:
                return
            with connection, connection.makefile("rb") as stream:
                self._read(stream)

    def _read(self, stream: BinaryIO) -> None:
        while True:
            length = b""
            while not length.endswith(b" "):
                digit = stream.read(1)
                if not digit:
                    return
                length += digit
            message = stream.read(int(length))
            if len(message) == int(length):
                self.messages.append(message)
