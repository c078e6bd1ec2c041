"""Replaces the sleeps of ``DULServiceProvider.run_reactor`` and of ``Association._run_reactor``.

pynetdicom 3.0.4 looks a thousand times a second, in two threads of each association, whether there is anything: each
request waits for a millisecond, and so does each response, and an association at rest costs a tenth of a core.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.events import Event

_LOOK_SECONDS = 0.02
"""How long a thread waits at most until it looks at its timers, and whether it is to end."""


@contextmanager
def waking_up(association: Association) -> Iterator[None]:
    """Have the thread of the upper layer wake up at what is sent or received, for the length of a ``with`` block.

    Parameters
    ----------
    association : Association
        One that is established.
    """
    stop = _wake_upper_layer(association.dul)
    try:
        yield
    finally:
        stop()


class WakingUp:
    """The same for associations that others requested, from their acceptance to the end of their connections.

    Their other thread, which serves the requests, wakes up at each request, release and abort.
    """

    def __init__(self) -> None:
        self._stops: dict[Association, Callable[[], None]] = {}

    def begin(self, event: Event) -> None:
        """For pynetdicom's EVT_ACCEPTED."""
        association = event.assoc
        _wake_server(association)
        self._stops[association] = _wake_upper_layer(association.dul)

    def end(self, event: Event) -> None:
        """For pynetdicom's EVT_CONN_CLOSE."""
        stop = self._stops.pop(event.assoc, None)
        if stop is not None:
            stop()


def _wake_upper_layer(provider: DULServiceProvider) -> Callable[[], None]:
    """Begin, and return what ends it."""
    look, delay = provider._is_transport_event, provider._run_loop_delay
    bell, button = socket.socketpair()
    for each in (bell, button):
        each.setblocking(False)

    def ring() -> None:
        with suppress(OSError):  # it was rung often enough, or it is over
            button.send(b"\0")

    def wait_and_look() -> bool:
        with suppress(OSError, ValueError):  # one of them was closed
            _wait(provider, bell)
        return look()

    silence = _told(provider.to_provider_queue, ring)
    provider._is_transport_event = wait_and_look  # type: ignore[method-assign]  # no other way
    provider._run_loop_delay = 0

    def stop() -> None:
        provider._run_loop_delay = delay
        provider._is_transport_event = look  # type: ignore[method-assign]
        silence()
        button.close()  # which wakes up who waits
        bell.close()

    return stop


def _wait(provider: DULServiceProvider, bell: socket.socket) -> None:
    """Wait until there is something to send, to read or to do."""
    connection = provider.socket.socket if provider.socket else None
    if connection is None:
        time.sleep(_LOOK_SECONDS)
        return
    if not (provider.event_queue.empty() and provider.to_provider_queue.empty()):  # some came before the bell was there
        return
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(bell, select.POLLIN)
    ready = poll.poll(_LOOK_SECONDS * 1000)
    if bell.fileno() in dict(ready):
        bell.recv(4096)


def _wake_server(association: Association) -> None:
    """Have the thread that serves requests wait for one instead of looking for it again and again."""
    messages, primitives = association.dimse.msg_queue, association.dul.to_user_queue
    get_msg, has_come = association.dimse.get_msg, threading.Event()
    for each in (messages, primitives):
        _told(each, has_come.set)

    def wait_and_get(block: bool = False) -> Any:
        if not block and messages.empty() and primitives.empty() and association.dul.is_alive():
            has_come.wait(_LOOK_SECONDS)
        has_come.clear()
        return get_msg(block)

    association.dimse.get_msg = wait_and_get  # type: ignore[method-assign]  # no other way


def _told(queue: "Queue[Any]", tell: Callable[[], object]) -> Callable[[], None]:
    """Have it called when something was put into a queue; return what ends that."""
    put = queue.put

    def put_and_tell(*arguments: Any, **options: Any) -> None:
        put(*arguments, **options)
        tell()

    def silence() -> None:
        queue.put = put  # type: ignore[method-assign]

    queue.put = put_and_tell  # type: ignore[method-assign]  # no other way
    return silence
