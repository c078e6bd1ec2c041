"""HTTP keeps to its limits, so that DICOM, which shares the process, has what it needs."""

import resource
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from structlog.testing import capture_logs

from iscl_node.metrics import Metrics
from iscl_node.web import limits
from iscl_node.web.app import web_app
from iscl_node.web.limits import MOST_CONNECTIONS, raise_descriptor_limit, web_server

HALF = b"GET /metrics HTTP/1.1\r\nHost: "


@pytest.fixture
def port(metrics: Metrics) -> Iterator[int]:
    server = web_server(web_app(metrics.registry, dict), "127.0.0.1", 0)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()


def half_sent(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(HALF)
    return connection


def is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_sent_requests_end_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LONGEST_SECONDS", 0.05)
    with half_sent(port) as connection:
        assert is_ended(connection)


def test_the_oldest_connection_makes_room(port: int) -> None:
    connections = [half_sent(port) for _ in range(MOST_CONNECTIONS + 3)]
    assert all(map(is_ended, connections[:3]))
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    connections[-1].sendall(b"me\r\n\r\n")
    assert connections[-1].recv(12) == b"HTTP/1.1 200"
    for connection in connections:
        connection.close()


def test_the_limit_of_descriptors_is_raised_as_far_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    was = {"limit": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: was["limit"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: was.update(limit=limit))
    assert raise_descriptor_limit() == 4096
    assert was["limit"] == (4096, 4096)
    assert raise_descriptor_limit() == 4096
    was["limit"] = (1024, resource.RLIM_INFINITY)
    assert raise_descriptor_limit() == limits.MOST_DESCRIPTORS


def test_a_limit_that_cannot_be_raised_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refused)
    with capture_logs() as lines:
        assert raise_descriptor_limit() == 1024
    assert [line["event"] for line in lines] == ["descriptors.limit_not_raised"]
