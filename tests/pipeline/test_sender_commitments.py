"""A sender is told that an instance is kept when an archive says so of that very instance, or when it is here."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import ct_dataset, part10

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import CT_IMAGE_STORAGE, CommitmentReport, InstanceReference, Peer
from iscl_node.domain.commitment import Commit, CommitmentRequest
from iscl_node.errors import RetryLaterError
from iscl_node.network.commitment_reports import UnknownTransactionError
from iscl_node.network.scu.association import NothingAcceptedError
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.reception.commitments import SenderCommitments
from iscl_node.retry import Backoff
from iscl_node.store.spool import Spool

NOW = 1_800_000_000.0
SENDER = Peer("sender", "SENDER", "127.0.0.1", 104, may_receive=False)


class Calls:
    """Peers that answer at once, or not."""

    def __init__(self) -> None:
        self.kept: frozenset[str] | None = frozenset()
        """What the archive commits to; None: its report is to come."""
        self.found: frozenset[str] = frozenset()
        self.offers_commitment = True
        self.asked: list[tuple[str, list[str]]] = []
        self.transactions: list[str] = []
        self.reports: list[CommitmentReport] = []
        self.sender_is_down = False

    def commit(
        self, peer: Peer, transaction_uid: str, instances: Sequence[InstanceReference]
    ) -> CommitmentReport | None:
        if not self.offers_commitment:
            raise NothingAcceptedError("not offered")
        self.asked.append(("commit", [each.sop_instance_uid for each in instances]))
        self.transactions.append(transaction_uid)
        return None if self.kept is None else CommitmentReport(transaction_uid, self.kept, {})

    def find(self, peer: Peer, study_uid: str, series_uid: str, sent: Collection[str] = ()) -> frozenset[str]:
        self.asked.append(("find", sorted(sent)))
        return self.found

    def report(self, peer: Peer, report: CommitmentReport, asked: Sequence[InstanceReference]) -> None:
        if self.sender_is_down:
            raise RetryLaterError("down")
        self.reports.append(report)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def uid(spool: Spool) -> str:
    """Of an instance that was received."""
    data = part10(ct_dataset())
    header = read_header(data)
    spool.store(header, data)
    return header.sop_instance_uid


Made = Callable[..., SenderCommitments]


@pytest.fixture
def made(spool: Spool, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr("time.time", lambda: NOW)

    def make(commit: Commit = "archived", confirm: str = "auto", sender: Peer = SENDER) -> SenderCommitments:
        archive = Peer("archive", "ARCHIVE", "127.0.0.1", 104, may_store=False, confirm=confirm)  # type: ignore[arg-type]
        peers = {each.name: each for each in (sender, archive)}
        return SenderCommitments(commit, spool, peers, calls, Backoff(0, 0), 60, KeptHeaders())

    return make


def request_for(*uids: str, since: float = NOW) -> CommitmentRequest:
    return CommitmentRequest("SENDER", "2.25.5", tuple(InstanceReference(CT_IMAGE_STORAGE, uid) for uid in uids), since)


def test_what_an_archive_keeps_is_committed(made: Made, calls: Calls, uid: str) -> None:
    commitments = made()
    commitments.keep(request_for(uid))
    commitments.look()
    assert (calls.asked, calls.reports) == ([("commit", [uid])], [])  # not yet
    calls.kept = frozenset({uid})
    commitments.look()
    assert calls.reports == [CommitmentReport("2.25.5", frozenset({uid}), {})]
    commitments.look()
    assert len(calls.reports) == 1


@pytest.mark.parametrize(("confirm", "offers"), [("query", True), ("auto", False)])
def test_an_archive_without_the_service_is_asked_by_query(
    made: Made, calls: Calls, uid: str, confirm: str, offers: bool
) -> None:
    calls.offers_commitment, calls.found = offers, frozenset({uid, "2.25.9"})
    commitments = made(confirm=confirm)
    commitments.keep(request_for(uid))
    commitments.look()
    assert calls.asked == [("find", [uid])]
    assert calls.reports == [CommitmentReport("2.25.5", frozenset({uid}), {})]


def test_the_report_of_an_archive_may_come_later(made: Made, calls: Calls, uid: str) -> None:
    calls.kept = None
    commitments = made(confirm="commitment")
    commitments.keep(request_for(uid))
    commitments.look()
    (transaction,) = calls.transactions
    report = CommitmentReport(transaction, frozenset({uid}), {})
    with pytest.raises(UnknownTransactionError):
        commitments.keep_report("STRANGER", report)
    commitments.keep_report("ARCHIVE", report)
    commitments.look()
    assert calls.reports == [CommitmentReport("2.25.5", frozenset({uid}), {})]


@pytest.mark.fault(
    "delivery",
    "no archive keeps an instance for which its sender asks",
    "it stays with its sender, which hears so",
)
@pytest.mark.parametrize("confirm", ["auto", "commitment", "query", "none"])
def test_what_no_archive_keeps_in_time_has_failed(
    made: Made, calls: Calls, uid: str, confirm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commitments = made(confirm=confirm)
    commitments.keep(request_for(uid, "2.25.9"))
    commitments.look()
    assert not calls.reports
    monkeypatch.setattr("time.time", lambda: NOW + 61)
    commitments.look()
    assert calls.reports == [CommitmentReport("2.25.5", frozenset(), {uid: 0x0110, "2.25.9": 0x0112})]


@pytest.mark.parametrize("state", ["open", "closed", "quarantine"])
def test_what_is_received_is_committed_where_that_is_enough(
    made: Made, calls: Calls, uid: str, state: str, spool: Spool
) -> None:
    if state != "open":
        batch = spool.close(str(ct_dataset().SeriesInstanceUID), datetime.now(UTC))
        if state == "quarantine":
            spool.quarantine(batch, "a test")
    commitments = made("received")
    commitments.keep(request_for(uid, "2.25.9"))
    commitments.look()
    assert calls.reports == [CommitmentReport("2.25.5", frozenset({uid}), {"2.25.9": 0x0112})]
    assert not calls.asked


@pytest.mark.fault(
    "delivery",
    "a sender that is to hear of its storage commitment is down, and the node is killed",
    "it is reported",
)
def test_a_request_outlives_the_process_and_a_sender_that_is_down(made: Made, calls: Calls, uid: str) -> None:
    calls.sender_is_down = True
    commitments = made("received")
    commitments.keep(request_for(uid))
    commitments.look()
    calls.sender_is_down = False
    made("received").look()  # another process
    assert [report.committed for report in calls.reports] == [{uid}]


def test_a_sender_that_never_answers_is_given_up(
    made: Made, calls: Calls, uid: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.sender_is_down = True
    commitments = made("received")
    commitments.keep(request_for(uid))
    commitments.look()
    assert list(requests_in(spool.root))
    monkeypatch.setattr("time.time", lambda: NOW + 121)
    commitments.look()
    assert not list(requests_in(spool.root))


def test_nothing_is_promised_to_a_sender_that_cannot_be_called(made: Made, uid: str) -> None:
    commitments = made(sender=Peer("sender", "SENDER", "", 104, may_receive=False))
    with pytest.raises(PermissionError, match="host and port"):
        commitments.keep(request_for(uid))


@pytest.mark.fault("spool", "the disk refuses a request for storage commitment", "nothing is committed")
def test_a_request_that_the_disk_refuses_is_refused(made: Made, uid: str, spool: Spool) -> None:
    (spool.root / "commitment_requests").touch()
    with pytest.raises(RetryLaterError, match="cannot be kept"):
        made().keep(request_for(uid))


def test_a_file_that_is_no_request_is_passed_over(made: Made, calls: Calls, uid: str, spool: Spool) -> None:
    commitments = made("received")
    commitments.keep(request_for(uid))
    for name, text in {"a.json": "{", "b.json": "[1]", "c.json": '{"instances": []}'}.items():
        (spool.root / "commitment_requests" / name).write_text(text)
    commitments.look()
    assert len(calls.reports) == 1


def requests_in(root: Path) -> list[Path]:
    return list((root / "commitment_requests").glob("*.json"))
