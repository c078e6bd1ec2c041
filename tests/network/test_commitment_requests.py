"""Requests for storage commitment by senders: who may ask, what is answered, and how the node reports."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from commitment_peers import encoded
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.events import Event
from scripted_peers import wait_until

from iscl_node.domain import CT_IMAGE_STORAGE, CommitmentReport, InstanceReference, Peer
from iscl_node.domain.commitment import CommitmentRequest
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from iscl_node.network.scp.commitment_requests import answered
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.network.scu.commitment_report import send_report

SENDER = Peer("sender", "SENDER", "127.0.0.1", 104, may_receive=False)
ARCHIVE = Peer("archive", "ARCHIVE", "127.0.0.1", 104, may_store=False)
TRANSACTION = "2.25.77"
ASKED = (InstanceReference(CT_IMAGE_STORAGE, "2.25.1"), InstanceReference(CT_IMAGE_STORAGE, "2.25.2"))


class Keeper:
    """Remembers what is asked for, or raises."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.requests: list[CommitmentRequest] = []

    def keep(self, request: CommitmentRequest) -> None:
        if self.fault is not None:
            raise self.fault
        self.requests.append(request)


def action_information(transaction_uid: str = TRANSACTION, uids: tuple[str, ...] = ("2.25.1", "2.25.2")) -> Dataset:
    information = Dataset()
    if transaction_uid:
        information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT_IMAGE_STORAGE, uid
        information.ReferencedSOPSequence.append(item)
    return information


@pytest.fixture
def start(metrics: Metrics) -> Iterator[Callable[..., StorageScp]]:
    with ExitStack() as stack:

        def start_scp(keeper: Keeper | None, *peers: Peer) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=peers,
                accept_unknown_peers=True,
                receive=lambda instance: None,
                metrics=metrics,
                report=lambda *_: None,
                commitments=keeper,
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


def ask(scp: StorageScp, information: Dataset, ae_title: str = "SENDER", *, with_role: bool = False) -> int | None:
    """The status of an N-ACTION; None if there is no presentation context for it."""
    entity = AE(ae_title)
    entity.add_requested_context(STORAGE_COMMITMENT, ExplicitVRLittleEndian)
    roles = [build_role(STORAGE_COMMITMENT, scu_role=True)] if with_role else []
    association = entity.associate("127.0.0.1", scp.port, ext_neg=roles, ae_title="ISCL_NODE")
    if not association.accepted_contexts:
        return None
    response, _ = association.send_n_action(information, 1, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE)
    association.release()
    return int(response.Status)


@pytest.mark.parametrize("with_role", [False, True])
def test_a_sender_may_ask(start: Callable[..., StorageScp], with_role: bool) -> None:
    keeper = Keeper()
    assert ask(start(keeper, SENDER), action_information(), with_role=with_role) == 0x0000
    (request,) = keeper.requests
    assert (request.ae_title, request.transaction_uid, request.instances) == ("SENDER", TRANSACTION, ASKED)


@pytest.mark.fault("peers", "a stranger asks for storage commitment", "no presentation context for it")
def test_nobody_else_may_ask(start: Callable[..., StorageScp]) -> None:
    keeper = Keeper()
    assert ask(start(keeper, SENDER), action_information(), "STRANGER") is None
    assert ask(start(None, SENDER), action_information()) is None
    assert ask(start(keeper, ARCHIVE), action_information(), "ARCHIVE") == 0x0211
    assert not keeper.requests


@pytest.mark.parametrize(
    ("information", "status"),
    [
        (action_information(""), 0x0115),
        (action_information(uids=()), 0x0115),
        (Dataset(), 0x0115),
    ],
    ids=["no transaction", "no instances", "nothing"],
)
@pytest.mark.fault("peers", "a request for storage commitment without UIDs, or cut off", "0x0115; nothing is committed")
def test_what_is_no_request_is_refused(information: Dataset, status: int) -> None:
    assert status_of(Keeper(), encoded(information)) == status


def test_a_request_that_is_cut_off_is_refused() -> None:
    whole = encoded(action_information())
    keeper = Keeper()
    for length in range(1, len(whole)):
        status_of(keeper, whole[:length])
    # pydicom reads what ends between elements; a UID that is cut off is never taken for another
    assert {each.sop_instance_uid for request in keeper.requests for each in request.instances} <= {"2.25.1", "2.25.2"}
    assert status_of(keeper, None) == 0x0115
    assert status_of(keeper, whole, action=2) == 0x0123


@pytest.mark.parametrize(
    ("fault", "status"), [(RetryLaterError("full"), 0x0213), (PermissionError("no host"), 0x0211), (KeyError(), 0x0110)]
)
@pytest.mark.fault(
    "peers", "a request for storage commitment cannot be kept, or not be reported on", "a failure; nothing is committed"
)
def test_what_cannot_be_kept_is_a_failure(fault: Exception, status: int) -> None:
    assert status_of(Keeper(fault), encoded(action_information())) == status


def status_of(keeper: Keeper, information: bytes | None, action: int = 1) -> int:
    request = SimpleNamespace(
        ActionTypeID=action, ActionInformation=None if information is None else BytesIO(information)
    )
    return answered(request, ExplicitVRLittleEndian, "SENDER", keeper)


@pytest.fixture
def modality() -> Iterator[SimpleNamespace]:
    """Takes reports as an SCU that listens."""
    heard = SimpleNamespace(reports=[], status=0x0000, roles=(True, True))

    def on_report(event: Event) -> tuple[int, None]:
        heard.reports.append((event.event_type, event.event_information))
        return heard.status, None

    entity = AE("SENDER")
    entity.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    heard.peer = Peer("sender", "SENDER", "127.0.0.1", server.server_address[1], may_receive=False)
    yield heard
    server.shutdown()


def test_the_report_names_what_is_kept_and_what_is_not(modality: Any) -> None:
    report = CommitmentReport(TRANSACTION, frozenset({"2.25.1"}), {"2.25.2": 0x0112})
    send_report(modality.peer, "ISCL_NODE", report, ASKED)
    send_report(modality.peer, "ISCL_NODE", CommitmentReport(TRANSACTION, frozenset({"2.25.1"}), {}), ASKED[:1])
    wait_until(lambda: len(modality.reports) == 2)
    (first, failures), (second, information) = modality.reports
    assert (first, second) == (2, 1)
    assert [each.ReferencedSOPInstanceUID for each in failures.ReferencedSOPSequence] == ["2.25.1"]
    (failed,) = failures.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("2.25.2", 0x0112)
    assert information.TransactionUID == TRANSACTION
    assert "FailedSOPSequence" not in information


@pytest.mark.fault("peers", "a sender does not take the report on its storage commitment", "it is reported again later")
def test_a_report_that_is_not_taken_is_tried_again(modality: Any) -> None:
    modality.status = 0x0110
    with pytest.raises(RetryLaterError, match="0110"):
        send_report(modality.peer, "ISCL_NODE", CommitmentReport(TRANSACTION, frozenset({"2.25.1"}), {}), ASKED[:1])
    assert threading.active_count() > 0
