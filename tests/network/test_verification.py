"""C-ECHO to peers that answer and to peers that do not."""

import pytest
from commitment_peers import ScriptedCommitmentScp
from pynetdicom import evt
from pynetdicom.presentation import build_context
from scripted_peers import ScriptedStorageScp, running, verification_only

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import established
from iscl_node.network.scu.verification import echo, takes_commitment


class EchoScp(ScriptedStorageScp):
    """Answers each C-ECHO with one status."""

    def __init__(self, status: int) -> None:
        super().__init__([])
        self.status = status

    def handlers(self) -> list[tuple]:
        return [(evt.EVT_C_ECHO, lambda event: self.status)]


def test_echo_returns_the_round_trip() -> None:
    with running(EchoScp(0x0000), sop_classes=verification_only()) as peer:
        assert 0 < echo(peer, "ISCL_NODE") < 10


def test_echo_names_a_failure_status() -> None:
    with (
        running(EchoScp(0x0122), sop_classes=verification_only()) as peer,
        pytest.raises(RetryLaterError, match=r"archive.*0122"),
    ):
        echo(peer, "ISCL_NODE")


def test_echo_says_that_there_was_no_answer() -> None:
    def hang_up(event: evt.Event) -> int:
        event.assoc.dul.socket.socket.close()
        return 0x0000

    scp = ScriptedStorageScp([])
    scp.handlers = lambda: [(evt.EVT_C_ECHO, hang_up)]  # type: ignore[method-assign]
    with (
        running(scp, sop_classes=verification_only()) as peer,
        pytest.raises(RetryLaterError, match="did not answer"),
    ):
        echo(peer, "ISCL_NODE")


def test_echo_says_that_the_peer_ended_the_association() -> None:
    scp = ScriptedStorageScp([])
    scp.handlers = lambda: [(evt.EVT_REQUESTED, lambda event: event.assoc.abort())]  # type: ignore[method-assign]
    with (
        running(scp, sop_classes=verification_only()) as peer,
        pytest.raises(RetryLaterError, match="peer archive"),
    ):
        echo(peer, "ISCL_NODE")


def test_echo_says_that_nobody_is_there() -> None:
    with running(ScriptedStorageScp([])) as peer:
        pass
    with pytest.raises(RetryLaterError, match=r"archive \(ARCHIVE at 127\.0\.0\.1:\d+\): no connection"):
        echo(peer, "ISCL_NODE")


def test_echo_says_that_verification_is_not_accepted() -> None:
    with running(ScriptedStorageScp([])) as peer, pytest.raises(RetryLaterError, match="does not accept Verification"):
        echo(peer, "ISCL_NODE")


def test_echo_says_that_we_are_not_known() -> None:
    with (
        running(EchoScp(0x0000), sop_classes=verification_only(), known_callers=["SOMEBODY"]) as peer,
        pytest.raises(RetryLaterError, match="does it know us as ISCL_NODE"),
    ):
        echo(peer, "ISCL_NODE")


def test_the_reactor_never_takes_a_response() -> None:
    with (
        running(EchoScp(0x0000), sop_classes=verification_only()) as peer,
        established(peer, "ISCL_NODE", [build_context("1.2.840.10008.1.1")]) as association,
    ):
        assert association.dimse.get_msg(block=False) == (None, None)
        answers = [association.send_c_echo().Status for _ in range(300)]
    assert answers == [0x0000] * 300


def test_a_peer_is_named_in_every_message() -> None:
    with pytest.raises(RetryLaterError, match="peer pacs"):
        echo(Peer("pacs", "PACS", "no-such-host.invalid", 104), "ISCL_NODE")


def test_storage_commitment_is_asked_for_of_an_instance_that_nobody_has() -> None:
    scp = ScriptedCommitmentScp()
    with running(scp, [STORAGE_COMMITMENT]) as peer:
        takes_commitment(peer, "ISCL_NODE")
    assert len(scp.requests) == 1
    assert len(scp.requests[0].ReferencedSOPSequence) == 1


def test_a_peer_that_refuses_storage_commitment_is_told() -> None:
    with (
        running(ScriptedCommitmentScp(0x0122), [STORAGE_COMMITMENT]) as peer,
        pytest.raises(ServiceRefusedError, match="0122"),
    ):
        takes_commitment(peer, "ISCL_NODE")
