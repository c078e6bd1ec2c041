"""Whoever is not let in is told of: why, from where, and as whom."""

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from certificates import Authority
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, SecondaryCaptureImageStorage, Verification

from iscl_node.domain import Peer, Tls, UserIdentity
from iscl_node.metrics import Metrics
from iscl_node.network.refusals import Refusal
from iscl_node.network.scp.storage_scp import StorageScp

SCANNER = Peer("ct 1", "SCANNER", "127.0.0.1", 104, user=UserIdentity("ct1", "secret"))

Told = list[tuple[str, str, str]]
Start = Callable[..., StorageScp]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def start(metrics: Metrics, told: Told, request: pytest.FixtureRequest) -> Start:
    def start_scp(tls: Tls | None = None, peer: Peer = SCANNER) -> StorageScp:
        scp = StorageScp(
            ae_title="ISCL_NODE",
            host="127.0.0.1",
            port=0,
            peers=[peer],
            accept_unknown_peers=False,
            receive=lambda instance: None,
            metrics=metrics,
            tls=tls,
            refused=lambda *refusal: told.append(refusal),
        )
        scp.start()
        request.addfinalizer(scp.stop)
        return scp

    return start_scp


def associated(scp: StorageScp, calling: str = "SCANNER", called: str = "ISCL_NODE") -> Association:
    entity = AE(ae_title=calling)
    entity.add_requested_context(Verification)
    return entity.associate("127.0.0.1", scp.port, ae_title=called)


@pytest.mark.fault(
    "peers",
    "a presentation context is proposed that is not accepted, such as of a private transfer syntax",
    "a log line with the peer, the SOP Class and the transfer syntax",
)
def test_contexts_that_are_not_accepted_are_named(start: Start) -> None:
    scp, entity = start(peer=replace(SCANNER, user=None)), AE(ae_title="SCANNER")
    entity.add_requested_context(Verification)
    entity.add_requested_context(CTImageStorage, "1.2.840.113619.5.2")
    entity.add_requested_context(SecondaryCaptureImageStorage)
    with structlog.testing.capture_logs() as logs:
        association = entity.associate("127.0.0.1", scp.port, ae_title="ISCL_NODE")
        association.release()
    (line,) = [each for each in logs if each["event"] == "contexts.refused"]
    assert (line["calling_ae_title"], line["host"]) == ("SCANNER", "127.0.0.1")
    assert "CT Image Storage in 1.2.840.113619.5.2" in line["contexts"]
    assert "Secondary Capture Image Storage in" in line["contexts"]


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("STRANGER", "ISCL_NODE", Refusal.CALLING_AE_TITLE),
        ("SCANNER", "OTHER", Refusal.CALLED_AE_TITLE),
        ("SCANNER", "ISCL_NODE", Refusal.USER),
    ],
)
def test_a_rejected_association_is_told(start: Start, told: Told, calling: str, called: str, reason: str) -> None:
    assert associated(start(), calling, called).is_rejected
    assert told == [(reason, "127.0.0.1", calling)]


@pytest.mark.fault("peers", "a refusal cannot be recorded in the audit trail", "the peer is refused all the same")
def test_who_is_refused_stays_refused_told_or_not(start: Start, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    scp = start()
    monkeypatch.setattr(scp, "_refused", lambda *_: told[0])
    association = associated(scp, "STRANGER")
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)


@pytest.mark.fault(
    "peers", "an error of the node while it looks who calls", "the caller is rejected, transient, counted"
)
def test_nobody_gets_in_by_an_error(start: Start, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    scp = start()
    monkeypatch.setattr(scp._authorization, "rejection", lambda *_: told[0])
    association = associated(scp)
    assert association.is_rejected
    assert association.acceptor.primitive.result == 2
    assert told == [(Refusal.NOT_JUDGED, "127.0.0.1", "")]


def test_a_failed_handshake_is_told(start: Start, told: Told, tmp_path: Path) -> None:
    scp = start(Authority(tmp_path).issue("node"))
    with socket.create_connection(("127.0.0.1", scp.port)) as connection:
        connection.sendall(b"\x01\x00 no TLS at all")
        deadline = time.monotonic() + 60
        while not told and time.monotonic() < deadline:
            time.sleep(0.02)
    assert told == [(Refusal.HANDSHAKE, "127.0.0.1", "")]
