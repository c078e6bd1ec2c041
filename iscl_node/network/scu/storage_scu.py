"""Storage SCU: sends derived instances to a peer and judges its answers (PS3.4 B)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from iscl_node.domain import InstanceReference, Peer, StoreAnswer
from iscl_node.errors import IsclNodeError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.patches.stored_file import StoredFile, send_as_it_is
from iscl_node.network.scu.association import NothingAcceptedError, established

_SUCCESS = 0x0000
_WARNINGS = range(0xB000, 0xC000)
DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 C.5.9): the peer has it, of an earlier try; the UIDs are computed."""
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_PROCESSING_FAILURE = 0x0110
_RESOURCE_LIMITATION = 0x0213

_log = structlog.get_logger(__name__)


Native = Callable[[Path], Dataset]
"""Reads a file and returns its data set in Explicit VR Little Endian, decoded if it was compressed."""

Open = Callable[[Path], BinaryIO]
"""Opens a file, or what is known of its beginning."""

Answered = Callable[[StoreAnswer], object]
"""Called with each answer as it comes."""


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
        Called with each answer, also with the one that ends the sending.
    opened : callable
        Gives a stream of a file's beginning, with its file meta information.

    Raises
    ------
    RetryLaterError
        The peer cannot be reached, stops answering, or is out of resources.
    QuarantineSeriesError
        The peer will not take these instances however often they are sent, or a file cannot be read.
    """
    outgoing = [identify(path, opened) for path in files]
    if not outgoing:
        return
    try:
        with established(peer, our_ae_title, _contexts(outgoing, native is not None)) as association:
            accepted = _Accepted(association, native)
            accepted.require(peer, outgoing)
            for number, instance in enumerate(outgoing, start=1):
                status = _send_one(association, instance, number, accepted)
                metrics.sent_instances.labels(peer=peer.name, status=hexadecimal(status)).inc()
                answered(StoreAnswer(reference(instance), status, is_stored(status)))
                require_stored(peer, status, number, len(outgoing))
    except NothingAcceptedError as error:
        raise QuarantineSeriesError(f"{error}; its configuration decides that") from error


def identify(path: Path, opened: Open) -> StoredFile:
    """What a file's meta information says of it; a QuarantineSeriesError if it cannot be read."""
    try:
        with opened(path) as stream:
            return StoredFile.at(path, stream)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise QuarantineSeriesError(f"a file to send cannot be read ({type(error).__name__})") from error


def reference(instance: StoredFile) -> InstanceReference:
    """Names the instance of a file."""
    return InstanceReference(str(instance.sop_class_uid), str(instance.sop_instance_uid))


def _contexts(outgoing: Sequence[StoredFile], is_decodable: bool) -> list[PresentationContext]:
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
        self._context_ids = {
            (context.abstract_syntax, context.transfer_syntax[0]): context.context_id
            for context in association.accepted_contexts
        }
        self._native = native

    def require(self, peer: Peer, outgoing: Sequence[StoredFile]) -> None:
        """Check before the first instance that the peer takes all of them, so that it does not get half a series."""
        for instance in outgoing:
            sop_class, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
            if not self._takes(sop_class, syntax, *_alternatives(syntax, self._native is not None)):
                raise QuarantineSeriesError(f"peer {peer.name} does not accept {sop_class.name} in {syntax.name}")

    def context_id_of(self, instance: StoredFile) -> int | None:
        """Of the presentation context in which the instance goes as its file is; None if the peer has none."""
        return self._context_ids.get((instance.sop_class_uid, instance.transfer_syntax_uid))

    def read(self, instance: StoredFile) -> Dataset | Path:
        """The instance in a transfer syntax that the peer takes, of which pynetdicom itself knows the nearest ones."""
        read = self._native if instance.transfer_syntax_uid.is_encapsulated else dcmread
        if read is None:
            return instance.path
        dataset = read(instance.path)
        is_explicit = self._takes(instance.sop_class_uid, ExplicitVRLittleEndian)
        return dataset if is_explicit else _in_implicit_vr(dataset)

    def _takes(self, sop_class: UID, *syntaxes: UID) -> bool:
        return any((sop_class, syntax) in self._context_ids for syntax in syntaxes)


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


def _send_one(association: Association, instance: StoredFile, number: int, accepted: _Accepted) -> int | None:
    """Send one instance and return the peer's status; None if it did not answer."""
    if not association.is_established:
        return None
    context_id, message_id = accepted.context_id_of(instance), number % 65_536
    try:
        if context_id is not None:
            return send_as_it_is(association, instance, context_id, message_id)
        response = association.send_c_store(accepted.read(instance), msg_id=message_id)
    except RuntimeError:  # the association ended since the line above
        return None
    except (OSError, ValueError, AttributeError, InvalidDicomError) as error:
        raise QuarantineSeriesError(f"a file to send cannot be encoded ({type(error).__name__})") from error
    return int(response.Status) if "Status" in response else None


def require_stored(peer: Peer, status: int | None, number: int, total: int) -> None:
    """Raise what to do about an instance that the peer did not store: RetryLaterError or QuarantineSeriesError."""
    if not is_stored(status):
        raise _failure(peer, status, f"instance {number} of {total}, {number - 1} stored")
    if status != _SUCCESS:
        _log.warning("instance.stored_with_warning", peer=peer.name, status=hexadecimal(status), number=number)


def is_stored(status: int | None) -> bool:
    """Whether the peer has the instance; its warnings mean that it does (PS3.4 Table B.2-1)."""
    return status is not None and (status in (_SUCCESS, DUPLICATE) or status in _WARNINGS)


def _failure(peer: Peer, status: int | None, where: str) -> IsclNodeError:
    """What to do about a failure status.

    0110 and 0213 (PS3.7 C.5), like A7xx, are about the peer's state and not about the instance: worth a retry.
    """
    if status is None:
        return RetryLaterError(f"peer {peer.name} stopped answering ({where})")
    if status in _OUT_OF_RESOURCES or status in (_PROCESSING_FAILURE, _RESOURCE_LIMITATION):
        return RetryLaterError(f"peer {peer.name} cannot store now: status {hexadecimal(status)} ({where})")
    return QuarantineSeriesError(f"peer {peer.name} refused with status {hexadecimal(status)} ({where})")


def hexadecimal(status: int | None) -> str:
    """A status as PS3.4 writes it."""
    return "none" if status is None else f"{status:04X}"
