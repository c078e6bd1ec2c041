"""Storage Commitment SCU: asks a peer to keep what we sent, for good (PS3.4 J, Push Model)."""

import queue
import time
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context
from pynetdicom.status import STORAGE_COMMITMENT_SERVICE_CLASS_STATUS

from iscl_node.domain import CommitmentReport, InstanceReference, Peer
from iscl_node.network.commitment_reports import (
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    Report,
    UnknownTransactionError,
    answered,
)
from iscl_node.network.patches.event_reports import EventReports
from iscl_node.network.scu.answers import SUCCESS, failure, final_status, lies_told
from iscl_node.network.scu.association import established

_REQUEST_STORAGE_COMMITMENT = 1
"""Action Type ID (PS3.4 Table J.3-1)."""

_IDLE_SECONDS_AFTERWARDS = 60.0
_POLL_SECONDS = 0.05


def request(
    peer: Peer,
    our_ae_title: str,
    transaction_uid: str,
    instances: Sequence[InstanceReference],
    report_seconds: float,
    report: Report | None = None,
    is_reported: Callable[[], bool] = lambda: False,
) -> CommitmentReport | None:
    """Ask a peer for storage commitment, and wait for its report on the same association.

    Parameters
    ----------
    peer : Peer
        Who has the instances.
    our_ae_title : str
        The calling AE title.
    transaction_uid : str
        Names this request in the report; each request has its own.
    instances : sequence of InstanceReference
        At least one. A report may have 27,000 (4 MiB); Orthanc 1.10 takes a second for 300 and a minute for 3000.
    report_seconds : float
        How long to wait for the report after the request was taken; 0 for not at all.
    report : callable, optional
        Takes reports on other requests, which some peers give on the next association; without it they are refused, so
        that the peer gives them again.

    Returns
    -------
    CommitmentReport or None
        None if the report did not come on this association: it came or will come on another, or never.

    Raises
    ------
    NothingAcceptedError
        The peer does not offer Storage Commitment.
    ServiceRefusedError
        It does, and refuses this request for good.
    RetryLaterError
        The peer cannot be reached, stops answering, or cannot do it now.
    """
    arriving: EventReports = queue.Queue()
    with (
        established(
            peer,
            our_ae_title,
            [build_context(STORAGE_COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])],
            idle_seconds=report_seconds + _IDLE_SECONDS_AFTERWARDS,
            event_reports=arriving,
        ) as association,
        lies_told(peer, "N-ACTION"),
    ):
        response, _ = association.send_n_action(
            _action_information(transaction_uid, instances),
            _REQUEST_STORAGE_COMMITMENT,
            UID(STORAGE_COMMITMENT),
            UID(STORAGE_COMMITMENT_INSTANCE),
        )
        status = final_status(response)
        if status != SUCCESS:
            raise failure(peer, "N-ACTION", status, STORAGE_COMMITMENT_SERVICE_CLASS_STATUS)
        awaited = _Awaited(peer, transaction_uid, report, is_reported)
        return awaited.on(association, arriving, report_seconds)


def _action_information(transaction_uid: str, instances: Sequence[InstanceReference]) -> Dataset:
    """The data set of the request (PS3.4 Table J.3-2)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(each) for each in instances]
    return information


def _item(instance: InstanceReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


class _Awaited:
    """The report on one request, among those that come."""

    def __init__(
        self, peer: Peer, transaction_uid: str, others: Report | None, is_reported: Callable[[], bool]
    ) -> None:
        self._peer = peer
        self._transaction_uid = transaction_uid
        self._others = others
        self._is_reported = is_reported
        self._found: CommitmentReport | None = None

    def on(self, association: Association, arriving: EventReports, seconds: float) -> CommitmentReport | None:
        """Answer what comes on an association until the report is there, the time is over, or the association."""
        end = time.monotonic() + seconds
        while self._found is None and not self._is_reported():
            try:
                message, context_id = arriving.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() >= end or not association.is_established:
                    break
                continue
            self._answer(association, message, context_id)
        return self._found

    def _answer(self, association: Association, message: N_EVENT_REPORT, context_id: int) -> None:
        context = next((each for each in association.accepted_contexts if each.context_id == context_id), None)
        if context is None:
            return
        response = N_EVENT_REPORT()
        response.MessageIDBeingRespondedTo = message.MessageID
        response.AffectedSOPClassUID = message.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = message.AffectedSOPInstanceUID
        response.EventTypeID = message.EventTypeID
        response.Status = answered(message, context.transfer_syntax[0], self._peer.ae_title, self._take)
        association.dimse.send_msg(response, context_id)

    def _take(self, ae_title: str, report: CommitmentReport) -> None:
        if report.transaction_uid == self._transaction_uid:
            self._found = report
        elif self._others is None:
            raise UnknownTransactionError("it is on another request")
        else:
            self._others(ae_title, report)
