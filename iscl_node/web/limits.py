"""How much HTTP may take from the process that it shares with DICOM: so many connections, for so long."""

import asyncio
import resource
import socket
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from iscl_node.errors import ConfigurationError

MOST_CONNECTIONS: Final = 96
"""A browser has six, monitoring and a load balancer one or two each; beyond, the oldest goes."""
LONGEST_SECONDS: Final = 10.0
"""From a connection to its end, unless a request is being answered: who asks again connects again."""
LONGEST_ANSWER_SECONDS: Final = 300.0
"""The same with an answer on its way: an export may be large."""
MOST_DESCRIPTORS: Final = 65_536
"""Open files and connections of the process, as far as its hard limit lets it; 1024 is what many systems begin with."""

_WAITING: Final = 32
"""Connections that the system holds until they are looked at; asyncio takes so many at a time."""

_log = structlog.get_logger(__name__)


class LimitedHttp(H11Protocol):
    """HTTP/1.1 on a connection that ends in time, and makes room for newer ones."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count the time; with too many connections the oldest ends."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._end = self.loop.call_later(LONGEST_SECONDS, self._end_unless_answering)
        mine = [each for each in self.connections if isinstance(each, LimitedHttp)]
        for oldest in sorted(mine, key=lambda each: each._since)[:-MOST_CONNECTIONS]:
            oldest.transport.abort()

    def _end_unless_answering(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self.loop.time() - self._since < LONGEST_ANSWER_SECONDS:
            self._end = self.loop.call_later(1.0, self._end_unless_answering)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the counting."""
        self._end.cancel()
        super().connection_lost(exc)


def web_server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    """A server for the HTTP side that keeps to the limits."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=LimitedHttp,
        backlog=_WAITING,
        log_level="warning",
        log_config=None,
        ws="none",
        proxy_headers=False,  # the headers show that a request came by a proxy; uvicorn would remove them
        server_header=False,
    )
    return uvicorn.Server(config)


def listening(host: str, port: int) -> socket.socket:
    """A socket for the server, made before its thread, in which uvicorn would fail unheard.

    Raises
    ------
    ConfigurationError
        The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}; see http.host and http.port in the settings"
        raise ConfigurationError(message) from error


def raise_descriptor_limit() -> int:
    """Let the process have as many open files and connections as its hard limit allows, and return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        _log.warning("descriptors.limit_not_raised", limit=soft, fault=type(error).__name__)
        return soft
    return wanted
