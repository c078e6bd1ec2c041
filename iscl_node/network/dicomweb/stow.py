"""STOW-RS: sends derived instances to a destination and judges its answers (PS3.18 10.5)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from iscl_node.domain import Peer, StoreAnswer
from iscl_node.errors import (
    IsclNodeError,
    OutsideBytesError,
    QuarantineSeriesError,
    RetryLaterError,
    outside_bytes,
)
from iscl_node.metrics import Metrics
from iscl_node.network.dicomweb.connection import Connection, HttpAnswer, connected, failure, named
from iscl_node.network.dicomweb.dicom_json import (
    FAILED_SOP_SEQUENCE,
    FAILURE_REASON,
    REFERENCED_SOP_INSTANCE_UID,
    REFERENCED_SOP_SEQUENCE,
    WARNING_REASON,
    data_sets,
    value,
    values,
)
from iscl_node.network.dicomweb.qido import has_instance
from iscl_node.network.patches.stored_file import StoredFile
from iscl_node.network.scu.storage_scu import DUPLICATE, hexadecimal, identify, is_stored, reference, require_stored

_PIECE: Final = 1 << 20
"""Bytes that are read and sent at a time."""

_TOLD: Final = (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT)
"""The body says which instances are stored and which are not, and why (PS3.18 Table 10.5.3-1)."""
_SYNTAX_NOT_SUPPORTED: Final = 0xC122
"""Referenced Transfer Syntax Not Supported (PS3.18 Table I.2-2)."""
_PROCESSING_FAILURE: Final = 0x0110
_NEVER: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""It will not take this instance however often it is sent."""


def send(
    peer: Peer,
    files: Sequence[Path],
    metrics: Metrics,
    native: Callable[[Path], Dataset],
    answered: Callable[[StoreAnswer], object] = lambda _answer: None,
    opened: Callable[[Path], BinaryIO] = lambda path: path.open("rb"),
) -> None:
    """Send files, one in each request; on return the destination has answered for each that it is stored.

    Sending stops at the first instance that it does not store. Each goes as its file is, byte for byte; one whose
    compression it does not take, decoded.

    Parameters
    ----------
    peer : Peer
        The destination.
    files : sequence of Path
        DICOM files (PS3.10); none is a success.
    metrics : Metrics
        Counts each answer.
    native : callable
        Decodes what it does not take compressed.
    answered : callable
        Called with each answer that has a status of DICOM.
    opened : callable
        Gives a stream of a file's beginning, with its file meta information.

    Raises
    ------
    RetryLaterError
        It cannot be reached, does not know us, or cannot store now.
    QuarantineSeriesError
        It will not take these instances however often they are sent, or a file cannot be read.
    """
    outgoing = [identify(path, opened) for path in files]
    if not outgoing:
        return
    with connected(peer) as connection:
        storing = _Storing(peer, connection, metrics, native)
        for number, instance in enumerate(outgoing, start=1):
            status = storing.status_of(instance)
            metrics.sent_instances.labels(peer=peer.name, status=hexadecimal(status)).inc()
            answered(StoreAnswer(reference(instance), status, is_stored(status)))
            require_stored(peer, status, number, len(outgoing))


class _Storing:
    """Stores instances on one connection."""

    def __init__(self, peer: Peer, connection: Connection, metrics: Metrics, native: Callable[[Path], Dataset]) -> None:
        self._peer = peer
        self._connection = connection
        self._metrics = metrics
        self._native = native
        self._not_taken: set[str] = set()
        """Transfer Syntax UIDs."""

    def status_of(self, instance: StoredFile) -> int:
        """Store one instance, and return the status that the destination gives it."""
        syntax = instance.transfer_syntax_uid
        if syntax.is_encapsulated and syntax in self._not_taken:
            return self._stored_natively(instance)
        answer = self._sent_as_it_is(instance)
        status = _status(answer, str(instance.sop_instance_uid))
        is_not_taken = answer.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE or status == _SYNTAX_NOT_SUPPORTED
        if is_not_taken and syntax.is_encapsulated:
            self._not_taken.add(syntax)
            return self._stored_natively(instance)
        return self._judged(instance, answer, status)

    def _sent_as_it_is(self, instance: StoredFile) -> HttpAnswer:
        try:
            with instance.path.open("rb") as stream:
                size = instance.path.stat().st_size
                return self._sent(size, stream)
        except OSError as error:
            raise QuarantineSeriesError(f"a file to send cannot be read ({type(error).__name__})") from error

    def _stored_natively(self, instance: StoredFile) -> int:
        try:
            dataset, encoded = self._native(instance.path), BytesIO()
            dcmwrite(encoded, dataset, enforce_file_format=True)
        except (OSError, ValueError, AttributeError) as error:
            raise QuarantineSeriesError(f"a file to send cannot be encoded ({type(error).__name__})") from error
        size = encoded.tell()
        encoded.seek(0)
        answer = self._sent(size, encoded)
        return self._judged(instance, answer, _status(answer, str(instance.sop_instance_uid)))

    def _judged(self, instance: StoredFile, answer: HttpAnswer, status: int | None) -> int:
        """The status; a service may say of what it has, of an earlier try, that it fails to store it."""
        if status is None:
            self._metrics.sent_instances.labels(peer=self._peer.name, status=f"HTTP {answer.status}").inc()
            raise _refusal(self._peer, answer)
        if answer.status == HTTPStatus.CONFLICT and not is_stored(status) and self._has(instance):
            return DUPLICATE
        return status

    def _has(self, instance: StoredFile) -> bool:
        with suppress(RetryLaterError):
            return has_instance(self._peer, self._connection, str(instance.sop_instance_uid))
        return False

    def _sent(self, size: int, stream: BinaryIO) -> HttpAnswer:
        """Send one part; the file itself names its transfer syntax, and Orthanc's plugin 1.7 takes no parameter."""
        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        length = len(head) + size + len(tail)
        return self._connection.post("studies", content_type, length, _pieces(head, stream, tail))


def _pieces(head: bytes, stream: BinaryIO, tail: bytes) -> Iterator[bytes]:
    yield head
    while piece := stream.read(_PIECE):
        yield piece
    yield tail


def _status(answer: HttpAnswer, sop_uid: str) -> int | None:
    """What the answer says of an instance; None if it does not mention it, or cannot be read.

    A success alone is not enough: what answers may be something that knows nothing of DICOM.
    """
    if answer.status not in _TOLD:
        return None
    with suppress(OutsideBytesError), outside_bytes():
        for data_set in data_sets(answer.body):
            for failed in values(data_set, FAILED_SOP_SEQUENCE):
                if value(failed, REFERENCED_SOP_INSTANCE_UID) == sop_uid:
                    return int(value(failed, FAILURE_REASON, _PROCESSING_FAILURE))
            for stored in values(data_set, REFERENCED_SOP_SEQUENCE):
                if value(stored, REFERENCED_SOP_INSTANCE_UID) == sop_uid:
                    return int(value(stored, WARNING_REASON, 0))
    return None


def _refusal(peer: Peer, answer: HttpAnswer) -> IsclNodeError:
    if answer.status in _NEVER:
        return QuarantineSeriesError(str(failure(peer, "STOW-RS", answer.status)))
    if answer.status in _TOLD:
        return RetryLaterError(f"{named(peer)} answered the STOW-RS without saying that the instance is stored")
    return failure(peer, "STOW-RS", answer.status)
