"""A sender's request for storage commitment: read, kept, answered (PS3.4 J.3.2)."""

import time
from typing import Any, Protocol

import structlog
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from iscl_node.domain import InstanceReference
from iscl_node.domain.commitment import CommitmentRequest
from iscl_node.errors import OutsideBytesError, RetryLaterError, outside_bytes
from iscl_node.logs import unforeseen_logged
from iscl_node.network.commitment_reports import RESOURCE_LIMITATION, UNRECOGNIZED_OPERATION, referenced

_REQUEST_STORAGE_COMMITMENT = 1
"""Action Type ID (PS3.4 Table J.3-1)."""
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_INVALID_ARGUMENT_VALUE = 0x0115
_NO_SUCH_ACTION = 0x0123

_log = structlog.get_logger(__name__)


class KeepsRequests(Protocol):
    """Takes what senders ask for."""

    def keep(self, request: CommitmentRequest) -> None:
        """Make it durable.

        Raises
        ------
        PermissionError
            Nothing can be reported to this sender.
        RetryLaterError
            It cannot be kept now.
        """


def answered(request: Any, transfer_syntax: UID, ae_title: str, keeper: KeepsRequests | None) -> int:
    """Read a request, have it kept, and return the status of the answer (PS3.7 10.1.4.1.10); never raises.

    Parameters
    ----------
    request : N_ACTION
        As it came.
    transfer_syntax : UID
        Of its presentation context.
    ae_title : str
        The sender's.
    keeper : KeepsRequests or None
        None of a node that commits to nothing.
    """
    if keeper is None:
        return UNRECOGNIZED_OPERATION
    if request.ActionTypeID != _REQUEST_STORAGE_COMMITMENT:
        return _NO_SUCH_ACTION
    try:
        with outside_bytes():
            wanted = commitment_request(request, transfer_syntax, ae_title)
    except OutsideBytesError as error:
        _log.warning("commitment_request.refused", ae_title=ae_title, reason=f"not a request ({error})")
        return _INVALID_ARGUMENT_VALUE
    return _kept(wanted, keeper)


def _kept(wanted: CommitmentRequest, keeper: KeepsRequests) -> int:
    asked = {"ae_title": wanted.ae_title, "instances": len(wanted.instances)}
    try:
        with unforeseen_logged("commitment_request.failed", RetryLaterError, PermissionError, ae_title=wanted.ae_title):
            keeper.keep(wanted)
            _log.info("commitment_request.received", **asked)
            return _SUCCESS
    except PermissionError as error:
        _log.warning("commitment_request.refused", reason=str(error), **asked)
        return UNRECOGNIZED_OPERATION
    except RetryLaterError as error:
        _log.warning("commitment_request.refused", reason=str(error), **asked)
        return RESOURCE_LIMITATION
    return _PROCESSING_FAILURE


def commitment_request(request: Any, syntax: UID, ae_title: str) -> CommitmentRequest:
    """Read the Action Information (PS3.4 Table J.3-2).

    Raises
    ------
    ValueError
        It has no Transaction UID or no instances, or is cut off.
    Exception
        Any error of pydicom about what is no data set.
    """
    if request.ActionInformation is None:
        raise ValueError("no Action Information")
    information = decode(request.ActionInformation, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    transaction_uid = str(information.get("TransactionUID") or "")
    instances = tuple(
        InstanceReference(str(item.get("ReferencedSOPClassUID") or ""), uid)
        for uid, item in referenced(information, "ReferencedSOPSequence")
    )
    if not transaction_uid or not instances:
        raise ValueError("no Transaction UID, or no instances")
    return CommitmentRequest(ae_title, transaction_uid, instances, time.time())
