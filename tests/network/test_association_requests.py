"""Association requests as devices write them: accepted, or rejected with a reason, as PS3.8 9.3 says."""

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
import structlog
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from scripted_peers import wait_until

from iscl_node.domain import Peer
from iscl_node.metrics import Metrics
from iscl_node.network.patches.association_requests import NO_TITLE, as_meant, calling_ae_title
from iscl_node.network.scp.storage_scp import StorageScp

ACCEPTED, REJECTED, ABORTED = 2, 3, 7
"""Types of the PDU that answers (PS3.8 9.3)."""

SCANNER = Peer("ct 1", "SCANNER", "127.0.0.1", 104)
ODD = Peer("ct 2", "M?LLER", "127.0.0.1", 104)


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


CONTEXT = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
MAXIMUM_LENGTH, CLASS_UID = item(0x51, b"\0\0\x40\0"), item(0x52, b"1.2.3")
APPLICATION_CONTEXT = item(0x10, b"1.2.840.10008.3.1.1.1")
UNKNOWN = item(0x5F, b"abcd")


def request_pdu(
    calling: bytes = b"SCANNER",
    called: bytes = b"ISCL_NODE",
    version: int = 1,
    items: Sequence[bytes] = (APPLICATION_CONTEXT, CONTEXT),
    user: Sequence[bytes] = (MAXIMUM_LENGTH, CLASS_UID),
) -> bytes:
    titles = called.ljust(16) + calling.ljust(16)
    body = struct.pack(">HH", version, 0) + titles + bytes(32) + b"".join(items) + item(0x50, b"".join(user))
    return struct.pack(">BxL", 1, len(body)) + body


@pytest.fixture
def start(metrics: Metrics) -> Iterator[Callable[..., StorageScp]]:
    with ExitStack() as stack:

        def start_scp(unknown: bool = False) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=[SCANNER, ODD],
                accept_unknown_peers=unknown,
                receive=lambda instance: None,
                metrics=metrics,
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


Start = Callable[..., StorageScp]


def answer(scp: StorageScp, pdu: bytes) -> bytes:
    """The first bytes that come back; those of a rejection are whole."""
    with socket.create_connection(("127.0.0.1", scp.port), 20) as connection:
        connection.sendall(pdu)
        return connection.recv(10)


@pytest.mark.parametrize(
    "pdu",
    [
        request_pdu(calling=b"SCANNER".ljust(16, b"\0")),
        request_pdu(calling=b"SCANNER\0leftover"),
        request_pdu(calling=b"  SCANNER"),
        request_pdu(calling=b"M\xfcLLER"),
        request_pdu(called=b"ISCL_NODE".ljust(16, b"\0")),
        request_pdu(version=3),
        request_pdu(user=[MAXIMUM_LENGTH, CLASS_UID, UNKNOWN]),
        request_pdu(user=[UNKNOWN, MAXIMUM_LENGTH, CLASS_UID]),
        request_pdu(user=[MAXIMUM_LENGTH, CLASS_UID, item(0x59, b"\0\0")]),
        request_pdu(user=[MAXIMUM_LENGTH, CLASS_UID, item(0x55, b"V\xe9rsion 1.0\\".ljust(20, b"\0"))]),
        request_pdu(user=[MAXIMUM_LENGTH, item(0x52, b"1.2.3\0\0")]),
        request_pdu(items=[item(0x99, b"abcd"), APPLICATION_CONTEXT, CONTEXT]),
        request_pdu(
            items=[APPLICATION_CONTEXT, CONTEXT[:3] + bytes([CONTEXT[3] + len(UNKNOWN)]) + CONTEXT[4:] + UNKNOWN]
        ),
    ],
)
@pytest.mark.fault(
    "peers",
    "an association request with AE titles padded with NUL, unknown items, or bits of other protocol versions",
    "accepted: padding is padding, what is unknown is passed over (PS3.8 9.3.1)",
)
def test_what_means_the_same_is_accepted(start: Start, pdu: bytes) -> None:
    assert answer(start(), pdu)[0] == ACCEPTED


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(
    ("pdu", "diagnostic"),
    [(request_pdu(calling=b""), 3), (request_pdu(calling=bytes(16)), 3), (request_pdu(called=b""), 7)],
)
@pytest.mark.fault("peers", "a blank AE title", "rejected, also where unknown peers are accepted; the log line says so")
def test_a_blank_title_is_rejected_with_a_line(start: Start, pdu: bytes, diagnostic: int, unknown: bool) -> None:
    with structlog.testing.capture_logs() as logs:
        assert answer(start(unknown), pdu) == bytes([REJECTED, 0, 0, 0, 0, 4, 0, 1, 1, diagnostic])
    (line,) = [line for line in logs if line["event"] == "association.rejected"]
    assert line["host"] == "127.0.0.1"
    assert NO_TITLE in (line["calling_ae_title"], line["called_ae_title"])


@pytest.mark.parametrize(
    ("pdu", "title"),
    [
        (request_pdu(items=[APPLICATION_CONTEXT, CONTEXT[:-1]]), "SCANNER"),
        (request_pdu(user=[item(0x51, b"\0")]), "SCANNER"),
        (struct.pack(">BxL", 9, 4) + bytes(4), ""),
    ],
    ids=["an item is cut off", "a maximum length of one byte", "a PDU of no known type"],
)
@pytest.mark.fault(
    "peers", "an association request that cannot be decoded", "aborted; one line has host, AE title and reason"
)
def test_an_abort_has_a_line(start: Start, pdu: bytes, title: str) -> None:
    with structlog.testing.capture_logs() as logs:
        assert answer(start(), pdu)[:1] in (bytes([ABORTED]), b"")
        wait_until(lambda: "connection.dropped" in [line["event"] for line in logs])
    (line,) = [line for line in logs if line["event"] == "connection.dropped"]
    assert (line["host"], line["calling_ae_title"], line["reason"]) == ("127.0.0.1", title, "not a PDU")


def test_an_abort_of_the_peer_has_a_line(start: Start) -> None:
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", start().port, ae_title="ISCL_NODE")
    with structlog.testing.capture_logs() as logs:
        association.abort()
        wait_until(lambda: "association.aborted" in [line["event"] for line in logs])
    (line,) = [line for line in logs if line["event"] == "association.aborted"]
    assert (line["host"], line["calling_ae_title"]) == ("127.0.0.1", "SCANNER")


@pytest.mark.parametrize("pdu", [b"", b"\1", b"\4\0\0\0\0\0", request_pdu()[:70], b"\2" + request_pdu()[1:]])
def test_other_pdus_stay_as_they_are(pdu: bytes) -> None:
    assert as_meant(pdu) == pdu
    assert calling_ae_title(pdu) == ""


def test_a_good_request_stays_as_it_is() -> None:
    pdu = request_pdu(user=[MAXIMUM_LENGTH, CLASS_UID, item(0x55, b"VERSION_1"), item(0x53, b"\0\1\0\1")])
    assert as_meant(pdu) == pdu
