"""Storage commitment: requests to peers that report on the same association, later, wrongly or not at all."""

import time
from collections.abc import Iterator

import pytest
import structlog
from commitment_peers import ScriptedCommitmentScp, encoded, event_information, send_report
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from scripted_peers import running, verification_only, wait_until

from iscl_node.domain import CT_IMAGE_STORAGE, CommitmentReport, InstanceReference, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT
from iscl_node.network.scu import association, storage_commitment
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NothingAcceptedError

TRANSACTION = "2.25.1000"
INSTANCES = [InstanceReference(CT_IMAGE_STORAGE, f"2.25.{number}") for number in (1, 2, 3)]
UIDS = [each.sop_instance_uid for each in INSTANCES]
PATIENCE_SECONDS = 15.0


def ask(peer: Peer, seconds: float = PATIENCE_SECONDS, **keywords: object) -> CommitmentReport | None:
    return storage_commitment.request(peer, "ISCL_NODE", TRANSACTION, INSTANCES, seconds, **keywords)


def running_with(scp: ScriptedCommitmentScp, *syntaxes: str) -> Iterator[Peer]:
    return running(scp, [STORAGE_COMMITMENT], syntaxes or [ExplicitVRLittleEndian])


def reporting(*informations: bytes | None, event_type: int | None = 1) -> ScriptedCommitmentScp:
    """A peer that takes the request and reports so often on the same association."""

    def speak(to: Association, _request: Dataset) -> None:
        for information in informations:
            send_report(to, information, event_type)

    return ScriptedCommitmentScp(speak=speak)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_all_instances_are_committed(syntax: str) -> None:
    implicit = syntax == ImplicitVRLittleEndian
    scp = reporting(encoded(event_information(TRANSACTION, UIDS), implicit=implicit))
    with running_with(scp, syntax) as peer:
        report = ask(peer)
        wait_until(lambda: scp.ends == ["released"])
    assert report == CommitmentReport(TRANSACTION, frozenset(UIDS), {})
    assert scp.statuses_heard == [0x0000]
    (request,) = scp.requests
    assert request.TransactionUID == TRANSACTION
    named = [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]
    assert named == [(CT_IMAGE_STORAGE, uid) for uid in UIDS]


def test_the_report_may_come_before_the_answer_to_the_request() -> None:
    def before(to: Association, _request: Dataset) -> None:
        send_report(to, encoded(event_information(TRANSACTION, UIDS)))

    scp = ScriptedCommitmentScp(before=before)
    with running_with(scp) as peer:
        assert ask(peer) == CommitmentReport(TRANSACTION, frozenset(UIDS), {})
        wait_until(lambda: scp.statuses_heard == [0x0000])


def test_the_report_may_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(association, "_NETWORK_SECONDS", 0.3)

    def speak(to: Association, _request: Dataset) -> None:
        time.sleep(1.0)
        send_report(to, encoded(event_information(TRANSACTION, UIDS)))

    with running_with(ScriptedCommitmentScp(speak=speak)) as peer:
        assert ask(peer) == CommitmentReport(TRANSACTION, frozenset(UIDS), {})


@pytest.mark.fault(
    "delivery",
    "a destination reports by storage commitment that it does not keep an instance, or does not mention it",
    "neither counts as committed",
)
def test_instances_that_failed_or_are_not_mentioned_are_not_committed() -> None:
    information = event_information(TRANSACTION, UIDS[:1], {UIDS[1]: 0x0112})
    with running_with(reporting(encoded(information), event_type=2)) as peer:
        assert ask(peer) == CommitmentReport(TRANSACTION, frozenset(UIDS[:1]), {UIDS[1]: 0x0112})


def test_what_is_said_to_have_failed_has_failed_whatever_else_is_said_of_it() -> None:
    information = event_information(TRANSACTION, UIDS, {UIDS[1]: 0x0110})
    with running_with(reporting(encoded(information))) as peer:
        report = ask(peer)
    assert report == CommitmentReport(TRANSACTION, frozenset([UIDS[0], UIDS[2]]), {UIDS[1]: 0x0110})


def test_a_failure_without_a_reason_is_a_failure() -> None:
    information = event_information(TRANSACTION, [], {UIDS[1]: 0x0112})
    del information.FailedSOPSequence[0].FailureReason
    with running_with(reporting(encoded(information), event_type=2)) as peer:
        assert ask(peer) == CommitmentReport(TRANSACTION, frozenset(), {UIDS[1]: 0x0110})


def test_a_report_may_come_on_another_association() -> None:
    scp = ScriptedCommitmentScp()
    with running_with(scp) as peer:
        start = time.monotonic()
        assert ask(peer, seconds=0.3) is None
        assert 0.3 <= time.monotonic() - start < PATIENCE_SECONDS
        wait_until(lambda: scp.ends == ["released"])


def test_the_wait_ends_when_the_report_came_on_another_association() -> None:
    looks = iter([False, False, True])
    with running_with(ScriptedCommitmentScp()) as peer:
        start = time.monotonic()
        assert ask(peer, is_reported=lambda: next(looks)) is None
        assert time.monotonic() - start < PATIENCE_SECONDS


def test_the_wait_ends_with_the_association() -> None:
    scp = ScriptedCommitmentScp(speak=lambda to, _request: to.release())
    with running_with(scp) as peer:
        start = time.monotonic()
        assert ask(peer, seconds=60.0) is None
        assert time.monotonic() - start < PATIENCE_SECONDS


@pytest.mark.fault(
    "delivery",
    "a destination's storage commitment report is garbage, cut off, without a transaction or for another one",
    "refused with a status and logged; the wait for the right one goes on",
)
@pytest.mark.filterwarnings("ignore:Expected explicit VR")  # of the garbage
def test_wrong_reports_are_refused_and_the_right_one_is_taken() -> None:
    right = encoded(event_information(TRANSACTION, UIDS))
    nameless = event_information(TRANSACTION, UIDS)
    del nameless.TransactionUID
    other = encoded(event_information("2.25.2000", UIDS))
    scp = reporting(b"garbage", right[:-5], encoded(nameless), other, None, right)
    with structlog.testing.capture_logs() as logs, running_with(scp) as peer:
        assert ask(peer) == CommitmentReport(TRANSACTION, frozenset(UIDS), {})
        wait_until(lambda: len(scp.statuses_heard) == 6)
    assert scp.statuses_heard == [0x0115] * 5 + [0x0000]
    refused = [line for line in logs if line["event"] == "commitment_report.refused"]
    assert len(refused) == 5
    assert all(uid not in str(logs) for uid in (*UIDS, "2.25.2000"))


def test_an_unknown_event_type_is_refused() -> None:
    scp = reporting(encoded(event_information(TRANSACTION, UIDS)), event_type=3)
    with running_with(scp) as peer:
        assert ask(peer, seconds=0.5) is None
        wait_until(lambda: scp.statuses_heard == [0x0113])


def test_a_report_on_another_request_is_passed_on() -> None:
    taken: list[tuple[str, CommitmentReport]] = []
    scp = reporting(encoded(event_information("2.25.2000", UIDS)), encoded(event_information(TRANSACTION, UIDS)))
    with running_with(scp) as peer:
        report = ask(peer, report=lambda title, told: taken.append((title, told)))
        wait_until(lambda: scp.statuses_heard == [0x0000, 0x0000])
    assert report is not None
    assert report.transaction_uid == TRANSACTION
    assert taken == [("ARCHIVE", CommitmentReport("2.25.2000", frozenset(UIDS), {}))]


def test_a_peer_without_storage_commitment() -> None:
    with (
        running(ScriptedCommitmentScp(), verification_only()) as peer,
        pytest.raises(NothingAcceptedError, match="Storage Commitment"),
    ):
        ask(peer)


@pytest.mark.parametrize("status", [0x0110, 0x0213, 0xA700])
def test_a_peer_that_cannot_now_is_asked_again(status: int) -> None:
    with (
        running_with(ScriptedCommitmentScp(status)) as peer,
        pytest.raises(RetryLaterError, match=f"peer archive.*N-ACTION.*{status:04X}") as caught,
    ):
        ask(peer)
    assert not isinstance(caught.value, ServiceRefusedError)


@pytest.mark.parametrize(
    ("status", "words"),
    [(0x0112, "no such sop instance"), (0x0123, "no such action"), (0x0124, "not authorised"), (0xC123, "no standard")],
)
def test_a_peer_that_refuses_for_good_says_why(status: int, words: str) -> None:
    with (
        running_with(ScriptedCommitmentScp(status)) as peer,
        pytest.raises(ServiceRefusedError, match=f"{status:04X}.*{words}"),
    ):
        ask(peer)


@pytest.mark.fault(
    "delivery",
    "a destination aborts, hangs up, or says nothing when it is asked for storage commitment",
    "left in time, asked again later",
)
@pytest.mark.parametrize("how", ["abort", "hang up", "silence"])
def test_a_peer_that_ends_the_association_is_asked_again(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(association, "_DIMSE_SECONDS", 0.5)

    def before(to: Association, _request: Dataset) -> None:
        if how == "abort":
            to.abort(block=False)
        elif how == "hang up":
            to.dul.socket.socket.close()
        else:
            time.sleep(2.0)

    start = time.monotonic()
    with running_with(ScriptedCommitmentScp(before=before)) as peer:
        with pytest.raises(RetryLaterError, match="peer archive"):
            ask(peer)
        assert time.monotonic() - start < PATIENCE_SECONDS


def test_a_peer_that_is_not_there() -> None:
    with pytest.raises(RetryLaterError, match="no connection"):
        ask(Peer("archive", "ARCHIVE", "127.0.0.1", 1))
