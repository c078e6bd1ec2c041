"""Reports of storage commitment on associations that the peers open to us: who may give them, and what we answer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network

import pytest
import structlog
from commitment_peers import encoded, event_information, send_report
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification
from scripted_peers import wait_until

from iscl_node.domain import CT_IMAGE_STORAGE, CommitmentReport, Peer, UserIdentity
from iscl_node.metrics import Metrics
from iscl_node.network.commitment_reports import (
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    UnknownTransactionError,
    on_behalf_of,
)
from iscl_node.network.scp.storage_scp import StorageScp

ARCHIVE = Peer("archive", "ARCHIVE", "127.0.0.1", 104, may_store=False)
TRANSACTION = "2.25.1000"
UIDS = ["2.25.1", "2.25.2", "2.25.3"]
SCP_ROLE = build_role(STORAGE_COMMITMENT, scp_role=True)

Start = Callable[..., StorageScp]


class Book:
    """Keeps what is reported on transactions that it knows."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.reports: list[tuple[str, CommitmentReport]] = []
        self.failure: Exception | None = None
        self.let_go = threading.Event()
        self.let_go.set()

    def __call__(self, ae_title: str, report: CommitmentReport) -> None:
        if report.transaction_uid not in self.known:
            raise UnknownTransactionError("nobody asked")
        self.let_go.wait(20)
        if self.failure is not None:
            raise self.failure
        self.reports.append((ae_title, report))


@pytest.fixture
def book() -> Book:
    return Book(TRANSACTION)


@pytest.fixture
def start(metrics: Metrics, book: Book) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_scp(*peers: Peer, unknown: bool = False, with_reports: bool = True) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=peers,
                accept_unknown_peers=unknown,
                receive=lambda instance: None,
                metrics=metrics,
                report=book if with_reports else None,
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


class Reporter:
    """A peer with an association for reports; knows the statuses of the answers.

    Parameters
    ----------
    scp : StorageScp
        To whom.
    roles : list
        What it negotiates about its role.
    syntax : str
        Its only transfer syntax.
    calling : str
        Its AE title.
    """

    def __init__(
        self,
        scp: StorageScp,
        roles: list = [SCP_ROLE],  # noqa: B006 - never changed
        syntax: str = ExplicitVRLittleEndian,
        calling: str = "ARCHIVE",
    ) -> None:
        self.statuses: list[int] = []
        self.association: Association = AE(ae_title=calling).associate(
            "127.0.0.1",
            scp.port,
            contexts=[
                build_context(STORAGE_COMMITMENT, syntax),
                build_context(Verification),
                build_context(CT_IMAGE_STORAGE, ExplicitVRLittleEndian),
            ],
            ae_title="ISCL_NODE",
            ext_neg=roles,
            evt_handlers=[(evt.EVT_DIMSE_RECV, self._on_received)],
        )

    def _on_received(self, event: evt.Event) -> None:
        self.statuses.append(event.message.command_set.Status)

    @property
    def accepted(self) -> set[str]:
        return {str(context.abstract_syntax) for context in self.association.accepted_contexts}

    def tell(self, information: bytes | None, event_type: int | None = 1) -> int:
        """Give a report and return the status of its answer."""
        count = len(self.statuses)
        send_report(self.association, information, event_type)
        wait_until(lambda: len(self.statuses) > count)
        return self.statuses[-1]


def everything(transaction_uid: str = TRANSACTION) -> bytes:
    return encoded(event_information(transaction_uid, UIDS))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "roles",
    [[SCP_ROLE], [build_role(STORAGE_COMMITMENT, scu_role=True, scp_role=True)], []],
    ids=["as SCP", "as both", "without a role"],
)
def test_a_report_is_taken_and_answered(start: Start, book: Book, roles: list, syntax: str) -> None:
    reporter = Reporter(start(ARCHIVE), roles, syntax)
    answered = reporter.association.acceptor.role_selection  # PS3.7 D.3.3.4: without an answer it would be no SCP
    assert {uid: (role.scu_role, role.scp_role) for uid, role in answered.items()} == (
        {STORAGE_COMMITMENT: (False, True)} if roles else {}
    )
    implicit = syntax == ImplicitVRLittleEndian
    assert reporter.tell(encoded(event_information(TRANSACTION, UIDS), implicit=implicit)) == 0x0000
    reporter.association.release()
    assert book.reports == [("ARCHIVE", CommitmentReport(TRANSACTION, frozenset(UIDS), {}))]


def test_a_library_that_reports_as_the_standard_says_is_understood(start: Start, book: Book) -> None:
    reporter = Reporter(start(ARCHIVE))
    information = event_information(TRANSACTION, UIDS[:1], {UIDS[1]: 0x0112})
    status, _ = reporter.association.send_n_event_report(
        information, 2, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
    )
    assert status.Status == 0x0000
    reporter.association.release()
    assert book.reports == [("ARCHIVE", CommitmentReport(TRANSACTION, frozenset(UIDS[:1]), {UIDS[1]: 0x0112}))]


def test_who_may_only_receive_gets_no_storage_context(start: Start) -> None:
    reporter = Reporter(start(ARCHIVE))
    assert reporter.accepted == {STORAGE_COMMITMENT, Verification}
    assert reporter.association.send_c_echo().Status == 0x0000
    reporter.association.release()


@pytest.mark.fault(
    "peers",
    "a peer that we do not send to wants to report storage commitment",
    "only what it may do is accepted; one that may do nothing else is rejected",
)
@pytest.mark.parametrize(
    ("peer", "accepted"),
    [
        (replace(ARCHIVE, may_store=True, may_receive=False), {Verification, CT_IMAGE_STORAGE}),
        (replace(ARCHIVE, may_echo=True, may_receive=False), {Verification}),
        (replace(ARCHIVE, may_receive=False), set()),
        (replace(ARCHIVE, host="192.0.2.7"), set()),
        (replace(ARCHIVE, host="192.0.2.7", networks=(ip_network("127.0.0.0/8"),)), {STORAGE_COMMITMENT, Verification}),
        (replace(ARCHIVE, user=UserIdentity("archive", "pass word")), set()),
    ],
    ids=["stores", "echoes", "nothing", "from elsewhere", "from its network", "without its password"],
)
def test_only_those_whom_we_send_to_report(start: Start, peer: Peer, accepted: set[str]) -> None:
    reporter = Reporter(start(peer))
    assert reporter.accepted == accepted
    assert reporter.association.is_rejected == (not accepted)
    reporter.association.release()


@pytest.mark.parametrize(
    "others", [[], [Peer("reports", "ARCHIVE_SCM", "127.0.0.1", 104, may_receive=False)]], ids=["unknown", "known"]
)
@pytest.mark.fault(
    "delivery",
    "a storage commitment report comes under another AE title of the destination's host",
    "taken by its Transaction UID; nothing else of that title is",
)
def test_a_host_that_we_send_to_reports_under_any_title(start: Start, book: Book, others: list[Peer]) -> None:
    elsewhere = Peer("elsewhere", "AARCHIVE", "192.0.2.7", 104, may_receive=True)
    reporter = Reporter(start(ARCHIVE, elsewhere, *others), calling="ARCHIVE_SCM")
    stores = {CT_IMAGE_STORAGE} if others else set()
    assert reporter.accepted == {STORAGE_COMMITMENT, Verification} | stores
    assert reporter.tell(everything()) == 0x0000
    assert reporter.tell(everything("2.25.2000")) == 0x0115
    reporter.association.release()
    assert [title for title, _ in book.reports] == ["ARCHIVE"]


def test_a_report_is_that_of_the_destination_that_was_asked() -> None:
    asked: list[str] = []

    def report(ae_title: str, _told: CommitmentReport) -> None:
        asked.append(ae_title)
        if ae_title != "SECOND":
            raise UnknownTransactionError("not this one")

    titles = ["FIRST", "SECOND", "THIRD"]
    on_behalf_of(titles, report)("CALLER", CommitmentReport(TRANSACTION, frozenset(), {}))
    assert asked == ["FIRST", "SECOND"]


def test_a_stranger_that_may_store_may_not_report(start: Start) -> None:
    reporter = Reporter(start(unknown=True), calling="STRANGER")
    assert reporter.accepted == {Verification, CT_IMAGE_STORAGE}
    reporter.association.release()


def test_an_entry_with_a_user_gives_nothing_to_those_who_are_another(start: Start) -> None:
    archive = replace(ARCHIVE, user=UserIdentity("archive", "pass word"))
    reporter = Reporter(start(archive, replace(ARCHIVE, name="echo", may_receive=False, may_echo=True)))
    assert reporter.accepted == {Verification}
    reporter.association.release()


def test_without_anybody_to_take_reports_there_are_none(start: Start) -> None:
    reporter = Reporter(start(ARCHIVE, with_reports=False))
    assert reporter.accepted == {Verification}
    reporter.association.release()


@pytest.mark.fault(
    "delivery",
    "a storage commitment report on an association of its own is garbage, cut off, nameless or not asked for",
    "refused with a status and logged without UIDs; the association goes on",
)
@pytest.mark.filterwarnings("ignore:Expected explicit VR")  # of the garbage
def test_wrong_reports_are_refused_and_the_next_one_is_taken(start: Start, book: Book) -> None:
    reporter = Reporter(start(ARCHIVE))
    nameless = event_information(TRANSACTION, UIDS)
    del nameless.TransactionUID
    with structlog.testing.capture_logs() as logs:
        for wrong in (b"garbage", everything()[:-5], encoded(nameless), everything("2.25.2000"), None):
            assert reporter.tell(wrong) == 0x0115
        assert reporter.tell(everything(), event_type=9) == 0x0113
        assert reporter.tell(everything()) == 0x0000
    reporter.association.release()
    assert [title for title, _ in book.reports] == ["ARCHIVE"]
    refused = [line for line in logs if line["event"] == "commitment_report.refused"]
    assert len(refused) == 6
    assert all(uid not in str(logs) for uid in (*UIDS, TRANSACTION, "2.25.2000"))


@pytest.mark.fault(
    "delivery",
    "a storage commitment report cannot be kept",
    "a failure status, so that the peer gives it again; the fault is logged",
)
def test_a_report_that_cannot_be_kept_is_not_answered_with_success(start: Start, book: Book) -> None:
    reporter = Reporter(start(ARCHIVE))
    book.failure = OSError(28, "No space left on device")
    with structlog.testing.capture_logs() as logs:
        assert reporter.tell(everything()) == 0x0110
    assert "commitment_report.failed" in [line["event"] for line in logs]
    book.failure = None
    assert reporter.tell(everything()) == 0x0000
    reporter.association.release()


def test_success_comes_after_the_report_is_kept(start: Start, book: Book) -> None:
    reporter = Reporter(start(ARCHIVE))
    book.let_go.clear()
    send_report(reporter.association, everything())
    time.sleep(0.2)
    assert reporter.statuses == []
    book.let_go.set()
    wait_until(lambda: reporter.statuses == [0x0000])
    assert len(book.reports) == 1
    reporter.association.release()


@pytest.mark.fault(
    "delivery",
    "a peer aborts while its storage commitment report is being kept",
    "the report is kept; given again, it is taken again",
)
def test_a_peer_that_leaves_too_early_may_report_again(start: Start, book: Book) -> None:
    scp = start(ARCHIVE)
    reporter = Reporter(scp)
    book.let_go.clear()
    send_report(reporter.association, everything())
    time.sleep(0.1)
    reporter.association.abort()
    book.let_go.set()
    wait_until(lambda: len(book.reports) == 1)
    again = Reporter(scp)
    assert again.tell(everything()) == 0x0000
    again.association.release()
    assert len(book.reports) == 2


def test_a_stop_waits_for_a_report_to_be_kept(start: Start, book: Book) -> None:
    scp = start(ARCHIVE)
    reporter = Reporter(scp)
    book.let_go.clear()
    send_report(reporter.association, everything())
    time.sleep(0.1)
    stopping = threading.Thread(target=scp.stop)
    stopping.start()
    time.sleep(0.1)
    book.let_go.set()
    stopping.join(20)
    assert not stopping.is_alive()
    wait_until(lambda: reporter.statuses == [0x0000])
    assert len(book.reports) == 1


def test_a_report_of_ten_thousand_instances_is_taken_and_a_larger_one_than_4_mib_is_not(
    start: Start, book: Book
) -> None:
    reporter = Reporter(start(ARCHIVE))
    many = [f"1.2.840.113619.2.55.3.1{number:037}" for number in range(1, 10_001)]
    assert reporter.tell(encoded(event_information(TRANSACTION, many))) == 0x0000
    ((_, report),) = book.reports
    assert len(report.committed) == 10_000
    assert reporter.tell(bytes(4 << 20 | 1)) == 0x0213
    assert reporter.tell(everything()) == 0x0000
    reporter.association.release()


@pytest.mark.fault(
    "peers",
    "a peer gives storage commitment reports without waiting for the answers",
    "its connection is dropped; each is served by the association's own thread",
)
def test_reports_that_wait_for_no_answer_are_counted(start: Start, book: Book, metrics: Metrics) -> None:
    reporter = Reporter(start(ARCHIVE))
    book.let_go.clear()
    labels = {"reason": "requests without waiting for responses"}
    threads = threading.active_count()

    def is_dropped() -> bool:
        send_report(reporter.association, everything())
        return bool(metrics.registry.get_sample_value("iscl_node_refused_connections_total", labels))

    wait_until(is_dropped)
    assert threading.active_count() <= threads + 10
    book.let_go.set()


def test_we_commit_to_nothing_ourselves(start: Start) -> None:
    reporter = Reporter(start(ARCHIVE), roles=[])
    status, _ = reporter.association.send_n_action(
        event_information(TRANSACTION, UIDS), 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
    )
    assert status.Status == 0x0211
    reporter.association.release()
