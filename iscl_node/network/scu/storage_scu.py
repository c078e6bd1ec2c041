"""Storage SCU: sends derived instances to a peer and judges its answers (PS3.4 B)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from iscl_node.domain import InstanceReference, Peer, StoreAnswer
from iscl_node.errors import IsclNodeError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu.association import NothingAcceptedError, established

_SUCCESS = 0x0000
_WARNINGS = range(0xB000, 0xC000)
_DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 C.5.9): the peer has it, of an earlier try; the UIDs are computed."""
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_PROCESSING_FAILURE = 0x0110
_RESOURCE_LIMITATION = 0x0213

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Outgoing:
    """A file to send, what it holds, and what its presentation context needs."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID

    @property
    def reference(self) -> InstanceReference:
        """How others name it."""
        return InstanceReference(str(self.sop_class_uid), str(self.sop_instance_uid))


Native = Callable[[Path], Dataset]
"""Reads a file and returns its data set in Explicit VR Little Endian, decoded if it was compressed."""

Open = Callable[[Path], BinaryIO]
"""Opens a file, or what is known of its beginning."""

Answered = Callable[[StoreAnswer], object]
"""Is told of each answer as it comes."""


def send(
    peer: Peer,
    our_ae_title: str,
    files: Sequence[Path],
    metrics: Metrics,
    native: Native | None = None,
    answered: Answered = lambda _answer: None,
    opened: Open = lambda path: path.open("rb"),
) -> None:
    """Send files over one association; on return the peer has answered for each that it is stored.

    Sending stops at the first instance the peer does not store. An instance may be sent again: its SOP Instance UID is
    the same, so the peer takes it as a repetition.

    Each instance goes as its file is encoded if the peer accepts that, otherwise native, which every peer takes (PS3.5
    10.1); for a compressed one that needs ``native``.

    Parameters
    ----------
    peer : Peer
        The destination.
    our_ae_title : str
        The calling AE title.
    files : sequence of Path
        DICOM files (PS3.10); none is a success.
    metrics : Metrics
        Counts each answer.
    native : callable, optional
        Decodes what the peer does not accept compressed. Without it compressed instances go as they are or not at all.
    answered : callable
        Is told of each answer, also of the one that ends the sending.
    opened : callable
        Gives a stream of a file's beginning, with its file meta information.

    Raises
    ------
    RetryLaterError
        The peer cannot be reached, stops answering, or is out of resources.
    QuarantineSeriesError
        The peer will not take these instances however often they are sent, or a file cannot be read.
    """
    outgoing = [_identify(path, opened) for path in files]
    if not outgoing:
        return
    try:
        with established(peer, our_ae_title, _contexts(outgoing, native is not None)) as association:
            accepted = _Accepted(association, native)
            accepted.require(peer, outgoing)
            for number, instance in enumerate(outgoing, start=1):
                status = _send_one(association, instance.path, number, accepted.reader_for(instance))
                metrics.sent_instances.labels(peer=peer.name, status=_hexadecimal(status)).inc()
                answered(StoreAnswer(instance.reference, status, _is_stored(status)))
                _require_stored(peer, status, number, len(outgoing))
    except NothingAcceptedError as error:
        raise QuarantineSeriesError(f"{error}; its configuration decides that") from error


def _identify(path: Path, opened: Open) -> _Outgoing:
    try:
        with opened(path) as stream:
            meta = read_partial(stream, lambda *_: True).file_meta
        uids = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID
        return _Outgoing(path, *uids)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise QuarantineSeriesError(f"a file to send cannot be read ({type(error).__name__})") from error


def _contexts(outgoing: Sequence[_Outgoing], is_decodable: bool) -> list[PresentationContext]:
    """One context per SOP class and transfer syntax: of the files, and of what they can be turned into."""
    pairs = {(instance.sop_class_uid, instance.transfer_syntax_uid) for instance in outgoing}
    pairs |= {(sop_class, other) for sop_class, syntax in pairs for other in _alternatives(syntax, is_decodable)}
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(pairs)]


def _alternatives(syntax: UID, is_decodable: bool) -> tuple[UID, ...]:
    """What an instance of this syntax can be sent in instead; pynetdicom itself encodes little endian in either VR."""
    if syntax.is_encapsulated:
        return (ExplicitVRLittleEndian, ImplicitVRLittleEndian) if is_decodable else ()
    return (ImplicitVRLittleEndian,) if syntax.is_little_endian and not syntax.is_compressed else ()


class _Accepted:
    """What a peer takes, and so how each instance goes to it."""

    def __init__(self, association: Association, native: Native | None) -> None:
        self._pairs = {
            (context.abstract_syntax, context.transfer_syntax[0]) for context in association.accepted_contexts
        }
        self._native = native

    def require(self, peer: Peer, outgoing: Sequence[_Outgoing]) -> None:
        """Check before the first instance that the peer takes all of them, so that it does not get half a series."""
        for instance in outgoing:
            sop_class, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
            if not self._takes(sop_class, syntax, *_alternatives(syntax, self._native is not None)):
                raise QuarantineSeriesError(f"peer {peer.name} does not accept {sop_class.name} in {syntax.name}")

    def reader_for(self, instance: _Outgoing) -> Native | None:
        """What reads the instance before it is sent; None where it goes as its file is."""
        sop_class, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
        if self._takes(sop_class, syntax):
            return None
        read = self._native if syntax.is_encapsulated else dcmread
        if read is None or self._takes(sop_class, ExplicitVRLittleEndian):
            return read
        return lambda path: _in_implicit_vr(read(path))

    def _takes(self, sop_class: UID, *syntaxes: UID) -> bool:
        return any((sop_class, syntax) in self._pairs for syntax in syntaxes)


def _in_implicit_vr(dataset: Dataset) -> Dataset:
    """Have a data set of Explicit VR Little Endian written in Implicit VR with the very bytes of its values.

    They are the same in both (PS3.5 7.1), but pydicom would decode them and write them anew: text that is not valid in
    its character set would be lost.
    """
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    _take_for_implicit_vr(dataset)
    return dataset


def _take_for_implicit_vr(dataset: Dataset) -> None:
    for tag in dataset.keys():  # noqa: SIM118 - iterating would decode all
        if dataset.get_item(tag).VR == "SQ":
            for item in dataset[tag].value:
                _take_for_implicit_vr(item)
    dataset.set_original_encoding(True, True, dataset.original_character_set)


def _send_one(association: Association, path: Path, number: int, read: Native | None) -> int | None:
    """Send one instance and return the peer's status; None if it did not answer."""
    if not association.is_established:
        return None
    try:
        instance = path if read is None else read(path)
        response = association.send_c_store(instance, msg_id=number % 65_536)
    except RuntimeError:  # the association ended since the line above
        return None
    except (OSError, ValueError, AttributeError, InvalidDicomError) as error:
        raise QuarantineSeriesError(f"a file to send cannot be encoded ({type(error).__name__})") from error
    return int(response.Status) if "Status" in response else None


def _require_stored(peer: Peer, status: int | None, number: int, total: int) -> None:
    """Raise unless the peer stored the instance."""
    if not _is_stored(status):
        raise _failure(peer, status, f"instance {number} of {total}, {number - 1} stored")
    if status != _SUCCESS:
        _log.warning("instance.stored_with_warning", peer=peer.name, status=_hexadecimal(status), number=number)


def _is_stored(status: int | None) -> bool:
    """Whether the peer has the instance; its warnings mean that it does (PS3.4 Table B.2-1)."""
    return status is not None and (status in (_SUCCESS, _DUPLICATE) or status in _WARNINGS)


def _failure(peer: Peer, status: int | None, where: str) -> IsclNodeError:
    """What to do about a failure status.

    0110 and 0213 (PS3.7 C.5) tell of the peer's state, as A7xx does, and not of the instance: they are worth a retry.
    """
    if status is None:
        return RetryLaterError(f"peer {peer.name} stopped answering ({where})")
    if status in _OUT_OF_RESOURCES or status in (_PROCESSING_FAILURE, _RESOURCE_LIMITATION):
        return RetryLaterError(f"peer {peer.name} cannot store now: status {_hexadecimal(status)} ({where})")
    return QuarantineSeriesError(f"peer {peer.name} refused with status {_hexadecimal(status)} ({where})")


def _hexadecimal(status: int | None) -> str:
    return "none" if status is None else f"{status:04X}"
