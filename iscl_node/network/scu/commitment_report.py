"""Reports to a sender which of its instances are kept, on an association of our own (PS3.4 J.3.3)."""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role
from pynetdicom.presentation import build_context
from pynetdicom.status import STORAGE_COMMITMENT_SERVICE_CLASS_STATUS

from iscl_node.domain import CommitmentReport, InstanceReference, Peer
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from iscl_node.network.scu.answers import SUCCESS, failure, final_status, lies_told
from iscl_node.network.scu.association import established

_ALL_COMMITTED, _FAILURES_EXIST = 1, 2
"""Event Type IDs (PS3.4 Table J.3-3)."""


def send_report(peer: Peer, our_ae_title: str, report: CommitmentReport, asked: Sequence[InstanceReference]) -> None:
    """Report, in the role of the SCP.

    Raises
    ------
    RetryLaterError
        The peer cannot be reached, or does not take the report.
    """
    context = build_context(STORAGE_COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    with (
        established(peer, our_ae_title, [context], role=role) as association,
        lies_told(peer, "N-EVENT-REPORT"),
    ):
        response, _ = association.send_n_event_report(
            _event_information(report, asked),
            _FAILURES_EXIST if report.failed else _ALL_COMMITTED,
            UID(STORAGE_COMMITMENT),
            UID(STORAGE_COMMITMENT_INSTANCE),
        )
        status = final_status(response)
        if status != SUCCESS:
            raise failure(peer, "N-EVENT-REPORT", status, STORAGE_COMMITMENT_SERVICE_CLASS_STATUS)


def _event_information(report: CommitmentReport, asked: Sequence[InstanceReference]) -> Dataset:
    """The data set of the report (PS3.4 Table J.3-4)."""
    information = Dataset()
    information.TransactionUID = report.transaction_uid
    committed = [_item(each) for each in asked if each.sop_instance_uid in report.committed]
    failed = [each for each in asked if each.sop_instance_uid in report.failed]
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = [_item(each, report.failed[each.sop_instance_uid]) for each in failed]
    return information


def _item(instance: InstanceReference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item
