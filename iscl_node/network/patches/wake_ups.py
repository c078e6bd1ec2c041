"""Replaces the sleep of ``DULServiceProvider.run_reactor`` of a requestor."""

import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

_LOOK_SECONDS = 0.02
"""How long its thread waits at most until it looks at its timers, and whether it is to end."""


@contextmanager
def waking_up(association: Association) -> Iterator[None]:
    """Have the thread of the upper layer wake up at what is sent or received, for the length of a ``with`` block.

    pynetdicom 3.0.4 looks a thousand times a second whether there is anything, so that each request waits for a
    millisecond, and so does each response.

    Parameters
    ----------
    association : Association
        One that is established.
    """
    provider = association.dul
    put, look, delay = provider.to_provider_queue.put, provider._is_transport_event, provider._run_loop_delay
    bell, button = socket.socketpair()
    for each in (bell, button):
        each.setblocking(False)

    def put_and_wake(*arguments: Any, **options: Any) -> None:
        put(*arguments, **options)
        with suppress(OSError):  # it was rung often enough, or the block is over
            button.send(b"\0")

    def wait_and_look() -> bool:
        with suppress(OSError, ValueError):  # one of them was closed
            _wait(provider, bell)
        return look()

    provider.to_provider_queue.put = put_and_wake  # type: ignore[method-assign]  # no other way
    provider._is_transport_event = wait_and_look  # type: ignore[method-assign]  # no other way
    provider._run_loop_delay = 0
    try:
        yield
    finally:
        provider._run_loop_delay = delay
        provider._is_transport_event = look  # type: ignore[method-assign]
        provider.to_provider_queue.put = put  # type: ignore[method-assign]
        button.close()  # which wakes up who waits
        bell.close()


def _wait(provider: DULServiceProvider, bell: socket.socket) -> None:
    """Wait until there is something to send, to read or to do."""
    connection = provider.socket.socket if provider.socket else None
    if connection is None:
        time.sleep(_LOOK_SECONDS)
        return
    if not provider.event_queue.empty() or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
        return
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(bell, select.POLLIN)
    ready = poll.poll(_LOOK_SECONDS * 1000)
    if bell.fileno() in dict(ready):
        bell.recv(4096)
