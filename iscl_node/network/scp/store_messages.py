"""The parts of a C-STORE request and of its response."""

from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.events import Event

from iscl_node.domain import ReceivedInstance
from iscl_node.errors import RejectInstanceError
from iscl_node.network.patches.discarded import Discarded

_OUT_OF_RESOURCES = 0xA700
_CANNOT_UNDERSTAND = 0xC000

_ERROR_COMMENT_LENGTH = 64
"""Characters of an LO (PS3.5 6.2), the value representation of Error Comment (0000,0902)."""


def received_instance(event: Event, calling: str) -> ReceivedInstance:
    """The data set as received, inside a DICOM File Format stream that names its source (PS3.10 7.1)."""
    encoded = data_set(event)
    if encoded is None:
        raise RejectInstanceError(_CANNOT_UNDERSTAND, "the C-STORE request has no data set")
    if isinstance(encoded, Discarded):
        raise RejectInstanceError(_OUT_OF_RESOURCES, encoded.reason)
    meta = event.file_meta
    meta.SourceApplicationEntityTitle = calling
    part10 = b"".join((bytes(128), b"DICM", encode_file_meta(meta), event.encoded_dataset(include_meta=False)))
    return ReceivedInstance(part10, calling, str(event.assoc.requestor.address))


def data_set(event: Event) -> BytesIO | None:
    """The encoded data set of a C-STORE request."""
    return event.request.DataSet  # type: ignore[union-attr]  # a C-STORE request, by the event's kind


def length(encoded: BytesIO | None) -> int:
    """How many bytes of a data set came."""
    return 0 if encoded is None else encoded.getbuffer().nbytes


def response(status: int, comment: str) -> Dataset:
    """The answer, with why for a failure."""
    answer = Dataset()
    answer.Status = status
    if comment:
        answer.ErrorComment = comment.encode("ascii", "replace").decode("ascii")[:_ERROR_COMMENT_LENGTH]
    return answer
