"""Destinations that answer garbage, half an answer or nothing: sending ends in time and is tried again later."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog
from pynetdicom.events import Event
from scripted_peers import ScriptedStorageScp, running

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu import association
from iscl_node.network.scu.storage_scu import send

MakeFiles = Callable[[int], list[Path]]

SHORT_SECONDS = 2.0
PATIENCE_SECONDS = 40

GARBAGE = b"HTTP/1.1 400 Bad Request\r\n\r\n"
HALF_A_PDU = b"\x04\x00\x00\x00\x10\x00half of 4096 bytes"
HALF_AN_ACCEPTANCE = b"\x02\x00\x00\x00\x00\xb8half of 184 bytes"
NO_DIMSE_MESSAGE = b"\x04\x00\x00\x00\x00\x0d\x00\x00\x00\x09\x01\x03garbage"

EMPTY_FRAGMENT = b"\x04\x00\x00\x00\x00\x05\x00\x00\x00\x01\x01"
LONG_DATA_SET = b"\x04\x00\x00\x00\x08\x06\x00\x00\x08\x02\x01\x00" + bytes(2048)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is too long for a test; what is tested is that there is a limit and what happens at it."""
    for limit in ("_ACSE_SECONDS", "_DIMSE_SECONDS", "_NETWORK_SECONDS"):
        monkeypatch.setattr(association, limit, SHORT_SECONDS)
    limited = partial(association.prepare_connection, seconds=SHORT_SECONDS)
    monkeypatch.setattr(association, "prepare_connection", limited)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """Set at the end of the test: until then a destination that hangs does."""
    event = threading.Event()
    yield event
    event.set()


def answering(answer: bytes, let_go: threading.Event) -> Peer:
    """A destination that answers a connection with these bytes, whatever it is asked, and then hangs."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(6)
            connection.sendall(answer)
            let_go.wait(60)

    threading.Thread(target=serve, daemon=True).start()
    return Peer("archive", "ARCHIVE", "127.0.0.1", listener.getsockname()[1])


class LyingStorageScp(ScriptedStorageScp):
    """Stores the first instance, and answers the second with bytes that are no response, and then nothing more."""

    def __init__(self, answer: bytes, let_go: threading.Event) -> None:
        super().__init__([])
        self._answer = answer
        self._let_go = let_go

    def on_c_store(self, event: Event) -> int:
        if len(self.received) == 1:
            event.assoc.dul.socket.socket.sendall(self._answer)
            self._let_go.wait(60)
        return super().on_c_store(event)


@pytest.mark.parametrize("answer", [b"", GARBAGE, HALF_AN_ACCEPTANCE], ids=["nothing", "garbage", "half an acceptance"])
@pytest.mark.fault(
    "delivery",
    "the destination answers the association request with nothing, garbage or half a PDU",
    "left in time, tried again later",
)
def test_a_destination_that_does_not_answer_the_request_is_left_in_time(
    answer: bytes, make_ct_files: MakeFiles, metrics: Metrics, let_go: threading.Event
) -> None:
    peer = answering(answer, let_go)
    start = time.monotonic()
    with pytest.raises(RetryLaterError, match="peer archive"):
        send(peer, "ISCL_NODE", make_ct_files(1), metrics)
    assert time.monotonic() - start < PATIENCE_SECONDS


@pytest.mark.parametrize(
    "answer", [b"", GARBAGE, HALF_A_PDU, NO_DIMSE_MESSAGE], ids=["nothing", "garbage", "half a PDU", "no message"]
)
@pytest.mark.fault(
    "delivery",
    "the destination answers an instance with nothing, garbage, half a PDU or a broken message",
    "left in time, tried again later; then all instances are sent",
)
def test_a_destination_that_does_not_answer_an_instance_is_left_in_time_and_gets_all_again(
    answer: bytes, make_ct_files: MakeFiles, metrics: Metrics, let_go: threading.Event
) -> None:
    files = make_ct_files(3)
    start = time.monotonic()
    with running(LyingStorageScp(answer, let_go)) as peer:
        with pytest.raises(RetryLaterError, match=r"stopped answering.*instance 2 of 3, 1 stored"):
            send(peer, "ISCL_NODE", files, metrics)
        assert time.monotonic() - start < PATIENCE_SECONDS
        let_go.set()
    scp = ScriptedStorageScp([])
    with running(scp) as peer:
        send(peer, "ISCL_NODE", files, metrics)
    assert len(scp.received) == 3


@pytest.mark.parametrize(
    ("answer", "limit"),
    [(GARBAGE, None), (NO_DIMSE_MESSAGE, None), (EMPTY_FRAGMENT, None), (LONG_DATA_SET, "_LONGEST_MESSAGE")],
    ids=["garbage", "no message", "no control header", "too long"],
)
@pytest.mark.fault(
    "delivery",
    "the destination sends garbage, a message that cannot be decoded, or one without an end",
    "left at once, not at a time-out, and no thread dies; tried again later",
)
def test_a_destination_that_breaks_the_rules_is_left_at_once(
    answer: bytes,
    limit: str | None,
    make_ct_files: MakeFiles,
    metrics: Metrics,
    let_go: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seconds in ("_DIMSE_SECONDS", "_NETWORK_SECONDS"):
        monkeypatch.setattr(association, seconds, 60)
    if limit is not None:
        monkeypatch.setattr(association, limit, 1000)
    start = time.monotonic()
    with structlog.testing.capture_logs() as logs, running(LyingStorageScp(answer, let_go)) as peer:
        with pytest.raises(RetryLaterError, match="stopped answering"):
            send(peer, "ISCL_NODE", make_ct_files(3), metrics)
        assert time.monotonic() - start < PATIENCE_SECONDS
        let_go.set()
    told = {"event": "message.rejected", "host": "127.0.0.1", "log_level": "warning"}
    assert (told in logs) == (answer != GARBAGE)  # that is no PDU, of which pynetdicom tells


def acceptance(*items: bytes) -> bytes:
    """An A-ASSOCIATE-AC with these items behind the application context (PS3.8 9.3.3)."""
    body = b"\0\1\0\0" + b" " * 32 + bytes(32) + b"\x10\0\0\x15" + b"1.2.840.10008.3.1.1.1" + b"".join(items)
    return struct.pack(">BxL", 2, len(body)) + body


CLASS_UID = b"\x52\0\0\x051.2.3"
MAXIMUM_LENGTH = b"\x51\0\0\4\0\0\x40\0"
EXPLICIT = b"\x40\0\0\x131.2.840.10008.1.2.1"
IMPLICIT = b"\x40\0\0\x111.2.840.10008.1.2"


def accepted_context(number: int, syntax: bytes) -> bytes:
    return struct.pack(">BxHBxxx", 0x21, 4 + len(syntax), number) + syntax


@pytest.mark.parametrize(
    "answer",
    [
        acceptance(accepted_context(1, IMPLICIT), accepted_context(3, EXPLICIT), b"\x50\0\0\x09" + CLASS_UID),
        acceptance(accepted_context(1, b""), accepted_context(3, b""), b"\x50\0\0\x11" + MAXIMUM_LENGTH + CLASS_UID),
    ],
    ids=["no maximum length", "no transfer syntax"],
)
@pytest.mark.fault(
    "delivery",
    "a destination accepts the association without a maximum length, or a context without a transfer syntax",
    "left, tried again later",
)
def test_a_destination_that_accepts_by_halves_is_left(
    answer: bytes, make_ct_files: MakeFiles, metrics: Metrics, let_go: threading.Event
) -> None:
    with pytest.raises(RetryLaterError, match="peer archive"):
        send(answering(answer, let_go), "ISCL_NODE", make_ct_files(1), metrics)
