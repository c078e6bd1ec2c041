"""The server under the Storage SCP: bounded before it makes a thread, and never waiting for one peer.

pynetdicom 3.0.4 does the TLS handshake in the loop that accepts connections, so one silent client keeps all others out,
and it accepts as many connections as come.
"""

import selectors
import socket
import ssl
import threading
from socketserver import BaseServer
from typing import Any

import structlog
from pynetdicom import AE
from pynetdicom.transport import ThreadedAssociationServer

from iscl_node.network.refusals import Refusal, Refused
from iscl_node.network.scp.admission import Admission
from iscl_node.network.tls import ServerTls

_POLL_SECONDS = 0.2
"""How often connections that are late are looked for."""

_log = structlog.get_logger(__name__)


class HardenedServer(ThreadedAssociationServer):
    """An association server that asks `Admission` about every connection.

    Parameters
    ----------
    admission : Admission
        Counts the connections.
    refused : callable
        Called for each TLS handshake that fails.
    request_seconds : float
        How long one step of a TLS handshake may take; all of it is up to ``admission``.
    tls : ServerTls or None
        None for no TLS. pynetdicom's own ``ssl_context`` is not used.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        *arguments: Any,
        admission: Admission,
        refused: Refused,
        request_seconds: float,
        tls: ServerTls | None = None,
        **keywords: Any,
    ) -> None:
        self._admission = admission
        self._refused = refused
        self._request_seconds = request_seconds
        self._tls = tls
        super().__init__(*arguments, **keywords)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its TLS handshake waits for a thread of its own."""
        connection, address = self.socket.accept()  # type: ignore[union-attr]  # a server that runs has one
        connection.settimeout(self._request_seconds)
        if self._tls is not None:
            connection = self._tls.context().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection, then give it a thread."""
        self._admission.open(request, str(client_address[0]))
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Finish the TLS handshake, wait for the first byte, then start the association's own threads.

        Those would look for it a thousand times a second.
        """
        try:
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
        except OSError as error:
            self._refuse_handshake(request, str(client_address[0]), error)
            return
        _wait_until_readable(request)
        super().process_request_thread(request, client_address)

    def _refuse_handshake(self, request: socket.socket, host: str, error: OSError) -> None:
        self._admission.close(request)
        self.shutdown_request(request)
        if isinstance(error, ssl.SSLError):  # otherwise the peer, or we, ended the connection
            _log.warning("tls.handshake_failed", host=host, reason=error.reason or type(error).__name__)
            self._refused(Refusal.HANDSHAKE, host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what kept a connection from its association; the base class would print it."""
        self._admission.close(request)
        _log.exception("connection.failed", host=str(client_address[0]))

    def service_actions(self) -> None:
        """Look for connections that are late, now and then and with every new one."""
        super().service_actions()
        self._admission.expire()

    def shutdown(self) -> None:
        """Stop accepting, drop what is no association yet, and close the listening socket."""
        BaseServer.shutdown(self)
        self._admission.drop_half_open()
        self.server_close()


def _wait_until_readable(connection: socket.socket) -> None:
    """Return when there is a byte, or the connection is at its end: `Admission` sees to that."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.select()


def start_server(entity: AE, address: tuple[str, int], **keywords: Any) -> HardenedServer:
    """Listen on ``address`` in a thread of its own.

    Parameters
    ----------
    entity : AE
        With its supported presentation contexts.
    address : tuple of str and int
        Host and port.
    **keywords
        Those of `HardenedServer`, and ``evt_handlers``.

    Raises
    ------
    OSError
        The address cannot be listened on.
    """
    server: HardenedServer = entity.make_server(  # type: ignore[assignment]  # the class that is asked for
        address,
        server_class=HardenedServer,
        **keywords,
    )
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="storage-scp", daemon=True)
    thread.start()
    return server
