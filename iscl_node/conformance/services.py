"""What the node's services accept and answer, as tables for the conformance statement; tests try them with peers."""

from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID, ComprehensiveSRStorage, ParametricMapStorage
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from iscl_node.domain import ReceptionLimits
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT
from iscl_node.network.scp.storage_scp import entity_accepting

VERIFICATION: Final = "1.2.840.10008.1.1"
PARAMETRIC_MAP_STORAGE: Final = str(ParametricMapStorage)
COMPREHENSIVE_SR_STORAGE: Final = str(ComprehensiveSRStorage)

ASKED: Final = {
    STORAGE_COMMITMENT: ("Storage Commitment", "whether a destination keeps what was sent to it"),
    str(StudyRootQueryRetrieveInformationModelFind): ("Query/Retrieve", "which instances of a series a peer has"),
    str(StudyRootQueryRetrieveInformationModelMove): ("Query/Retrieve", "for instances of a series, to be sent to us"),
}
"""SOP Classes that the node uses as SCU beside Storage and Verification: the service class, and what is asked."""

SCP_STATUSES: Final = {
    0x0000: ("success", "the instance is on disk, or was there before with the same bytes"),
    0x0110: ("processing failure", "an unexpected error of the node; its log says which"),
    0xA700: (
        "out of resources",
        "less free space than spool.min_free_bytes, a full disk, too large, or the node stops",
    ),
    0xA900: ("data set does not match SOP Class", "a UID, the Modality or Pixel Data is missing or contradicts"),
    0xC000: (
        "cannot understand",
        "no DICOM data set, cut off, not in the transfer syntax it claims, or deflated and of more than 64 MiB",
    ),
}
"""Status of a C-STORE response (PS3.4 Table B.2-1), its meaning, and when the node gives it."""

SCU_STATUSES: Final = {
    "0000": "the instance is stored",
    "B000 to BFFF": "the instance is stored; the warning is logged",
    "0111": "the instance is stored: it was there",
    "A700 to A7FF": "tries again later",
    "0110, 0213": "tries again later",
    "no answer, association aborted or rejected, no connection": "tries again later",
    "any other": "the series goes into quarantine with the status",
    "no presentation context accepted": "the series goes into quarantine",
}
"""What the node does about the answer to its C-STORE request."""


REPORT_STATUSES: Final = {
    0x0000: ("success", "the report is kept"),
    0x0110: ("processing failure", "it could not be kept; the node's log says why"),
    0x0113: ("no such event type", "an Event Type ID other than 1 and 2"),
    0x0115: ("invalid argument value", "no data set, cut off, no Transaction UID, or not asked of that peer"),
    0x0213: ("resource limitation", "more than 4 MiB, or the node stops"),
}
"""Status of an N-EVENT-REPORT response (PS3.7 10.1.1.1.8), its meaning, and when the node gives it."""

ASKED_STATUSES: Final = {
    "0000": "done",
    "B000 (C-MOVE)": "done; what failed is asked for again",
    "0110, 0213, A700 to A7FF, FE00": "asks again later",
    "no answer, association aborted or rejected, no connection": "asks again later",
    "any other": "the peer does not do this; logged with the status",
    "no presentation context accepted": "the peer does not do this",
}
"""What the node does about the answer to its N-ACTION, C-FIND and C-MOVE requests."""


@dataclass(frozen=True)
class AcceptedContext:
    """A presentation context that the node accepts as SCP."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]


def accepted_contexts() -> tuple[AcceptedContext, ...]:
    """Return what the running Storage SCP accepts, from the same entity."""
    entity = entity_accepting("CONFORMANCE", ReceptionLimits())
    return tuple(
        AcceptedContext(str(context.abstract_syntax), tuple(map(str, context.transfer_syntax)))
        for context in entity.supported_contexts
    )


def uid_name(uid: str) -> str:
    """Return the name of a UID of the data dictionary (PS3.6 Table A-1)."""
    return UID(uid).name
