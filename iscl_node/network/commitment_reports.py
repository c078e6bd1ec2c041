"""A peer's report on a storage commitment request by N-EVENT-REPORT, and our answer to it (PS3.4 J.3.3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO

import structlog
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import decode

from iscl_node.domain import CommitmentReport
from iscl_node.errors import IsclNodeError, OutsideBytesError, RetryLaterError, outside_bytes
from iscl_node.logs import unforeseen_logged

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
"""SOP Class UID of the Storage Commitment Push Model (PS3.4 J.3.5)."""
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Its well-known SOP Instance UID."""

_ALL_COMMITTED = 1
_FAILURES_EXIST = 2
"""Event Type IDs (PS3.4 Table J.3-3)."""

_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT_VALUE = 0x0115
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

Report = Callable[[str, CommitmentReport], None]
"""Takes a peer's AE title and its report; returns when the report is durable, or raises `UnknownTransactionError`."""

_log = structlog.get_logger(__name__)


class UnknownTransactionError(IsclNodeError):
    """Commitment was not asked for with that Transaction UID, or not of that peer."""


_FORESEEN = (UnknownTransactionError, RetryLaterError)
"""What a report may meet; each has an answer of its own."""


def answered(request: N_EVENT_REPORT, transfer_syntax: UID, ae_title: str, report: Report) -> int:
    """Read a report, pass it on, and return the status of the answer (PS3.7 10.1.1.1.8); never raises.

    Parameters
    ----------
    request : N_EVENT_REPORT
        As it came.
    transfer_syntax : UID
        Of its presentation context.
    ae_title : str
        The peer's.
    report : callable
        What makes it durable.
    """
    if request.EventTypeID not in (_ALL_COMMITTED, _FAILURES_EXIST):
        _log.warning("commitment_report.refused", ae_title=ae_title, reason="no such event type")
        return _NO_SUCH_EVENT_TYPE
    try:
        with outside_bytes():
            told = commitment_report(request.EventInformation, transfer_syntax)
    except OutsideBytesError as error:
        reason = f"not a report ({error})"
        _log.warning("commitment_report.refused", ae_title=ae_title, reason=reason)
        return _INVALID_ARGUMENT_VALUE
    return _passed_on(told, ae_title, report)


def on_behalf_of(ae_titles: Sequence[str], report: Report) -> Report:
    """Pass a report on as that of the first of some destinations that was asked for it."""

    def pass_on(_calling: str, told: CommitmentReport) -> None:
        for title in ae_titles:
            with suppress(UnknownTransactionError):
                report(title, told)
                return
        raise UnknownTransactionError("no destination at this host was asked for it, or its batch has ended")

    return pass_on


def _passed_on(told: CommitmentReport, ae_title: str, report: Report) -> int:
    try:
        with unforeseen_logged("commitment_report.failed", *_FORESEEN, ae_title=ae_title):
            report(ae_title, told)
            _log_received(ae_title, told)
            return _SUCCESS
    except UnknownTransactionError as error:
        _log.warning("commitment_report.refused", ae_title=ae_title, reason=str(error))
        return _INVALID_ARGUMENT_VALUE
    except RetryLaterError as error:
        _log.warning("commitment_report.postponed", ae_title=ae_title, reason=str(error))
        return RESOURCE_LIMITATION
    return _PROCESSING_FAILURE


def _log_received(ae_title: str, told: CommitmentReport) -> None:
    _log.info("commitment_report.received", ae_title=ae_title, committed=len(told.committed), failed=len(told.failed))


def commitment_report(information: BytesIO | None, transfer_syntax: UID) -> CommitmentReport:
    """Read the Event Information of a report (PS3.4 Table J.3-4).

    What is in the Failed SOP Sequence failed, also if it is named elsewhere.

    Raises
    ------
    ValueError
        It has no Transaction UID, or is cut off.
    Exception
        Any error of pydicom about what is no data set.
    """
    if information is None:
        raise ValueError("no Event Information")
    syntax = transfer_syntax
    dataset = decode(information, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    transaction_uid = str(dataset.get("TransactionUID") or "")
    if not transaction_uid:
        raise ValueError("no Transaction UID")
    items = referenced(dataset, "FailedSOPSequence")
    failed = {uid: int(item.get("FailureReason") or _PROCESSING_FAILURE) for uid, item in items}
    committed = {uid for uid, _ in referenced(dataset, "ReferencedSOPSequence")}
    return CommitmentReport(transaction_uid, frozenset(committed - failed.keys()), failed)


def referenced(dataset: Dataset, sequence: str) -> Iterator[tuple[str, Dataset]]:
    """The SOP Instance UIDs that the items of a sequence name, each with its item."""
    for item in dataset.get(sequence) or ():
        _require_whole(item)
        uid = str(item.get("ReferencedSOPInstanceUID") or "")
        if uid:
            yield uid, item


def _require_whole(item: Dataset) -> None:
    """Raise if the UID is cut off, which pydicom lets pass: the beginning of one UID may be another's whole."""
    element = item.get_item("ReferencedSOPInstanceUID")
    if isinstance(element, RawDataElement) and len(element.value or b"") != element.length:
        raise ValueError("cut off")
