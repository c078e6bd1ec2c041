"""TCP ports that nobody else takes between their choice and their use, and for as long as their user is stopped."""

import contextlib
import itertools
import os
import socket

_FIRST, _LAST = 10_240, 32_768
"""Below the ports that Linux gives to outgoing connections, and to whoever listens on port 0."""

_PARTS = 16


def _candidates(process: int, part: int) -> list[int]:
    """The ports of one of the processes that run tests side by side, begun where another run hardly begins."""
    size = (_LAST - _FIRST) // _PARTS
    first = _FIRST + part % _PARTS * size
    return [first + (process * 97 + number) % size for number in range(size)]


# pytest-xdist names its processes gw0, gw1 and so on.
_next = itertools.cycle(_candidates(os.getpid(), int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])))


def free_port() -> int:
    """A TCP port of this machine that nobody listens on, and that was not given before."""
    for port in _next:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no end of ports")
