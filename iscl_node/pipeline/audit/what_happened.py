"""What is recorded in the audit trail, and when. Facts come from the spool and from headers, messages from `audit`."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from iscl_node.audit.messages import Messages, Transfer
from iscl_node.audit.schema import AuditMessage
from iscl_node.dicom.reading.identity import read_identity
from iscl_node.domain import Batch, InstanceIdentity, Peer, SeriesState
from iscl_node.errors import IsclNodeError, outside_bytes, text_of
from iscl_node.logs import unforeseen_logged
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.store import tree
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)

_UNREADABLE: Final = InstanceIdentity("", "", "")
"""Stands for an instance that cannot be read: it is counted, of a patient and a study that are not known."""
RECORDED_FILE: Final = "received.audited"
"""In the folder of a batch: the trail has what was received. It goes where the batch goes."""
_CALLERS: Final = 10_000
"""Of so many series and senders the address is remembered until their batch is recorded."""


Open = Callable[[Path], BinaryIO]
"""Opens a file, or what is known of it."""


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


class Audit:
    """Records what the node does; of a node without an audit trail, this one, nothing."""

    def came_from(self, series_uid: str, ae_title: str, address: str) -> None:
        """Remember where the instances of a series come from."""

    def conflict(self, series_uid: str, part10: bytes) -> None:
        """Record an instance that was received and went to quarantine at once."""

    def received(self, batch: Batch) -> None:
        """Record what a closed batch holds, for each sender and patient."""

    def begin_sending(self, batch: Batch, peer: str) -> list[str]:
        """Record what is to be sent to a destination, and return its SOP Instance UIDs for `sent`."""
        return []

    def sent(self, batch: Batch, peer: str, sop_uids: Sequence[str], refusal: str) -> None:
        """Record what was sent to a destination, or why it refused."""


NO_AUDIT: Final = Audit()


class AuditTrail(Audit):
    """Records into a trail. Every fault here is logged and counted, and stops no image.

    Parameters
    ----------
    spool : Spool
        Where the instances are.
    messages : Messages
        Makes the messages.
    record : callable
        Takes them.
    peers : iterable of Peer
        For the addresses of destinations, and of senders whose address is not remembered over a restart.
    lost : callable
        Counts a call that could not be recorded, or not all of it.
    headers : KeptHeaders, optional
        What is known of the instances without reading them.
    """

    def __init__(
        self,
        spool: Spool,
        messages: Messages,
        record: Callable[[AuditMessage], None],
        peers: Iterable[Peer],
        lost: Callable[[], None],
        headers: KeptHeaders | None = None,
    ) -> None:
        self._spool = spool
        self._deliveries = Deliveries(spool.root)
        self._messages = messages
        self._record = record
        self._lost = lost
        self._opened = (headers or KeptHeaders()).stream
        self._peers = {peer.name: peer for peer in peers}
        self._hosts = {peer.ae_title: peer.host for peer in self._peers.values()}
        self._addresses: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def came_from(self, series_uid: str, ae_title: str, address: str) -> None:
        """Remember where the instances of a series come from."""
        with self._lock:
            self._addresses[series_uid, ae_title] = address
            self._addresses.move_to_end((series_uid, ae_title))
            if len(self._addresses) > _CALLERS:
                self._addresses.popitem(last=False)

    def conflict(self, series_uid: str, part10: bytes) -> None:
        """Record an instance that was received and went to quarantine at once."""
        with self._logged("conflict"):
            self._record_received(series_uid, [BytesIO(part10)])

    def received(self, batch: Batch) -> None:
        """Record what a closed batch holds, for each sender and patient; once, also if it is requeued."""
        with self._logged("received"):
            paths = self._spool.instances(batch)
            marker = paths[0].parent / RECORDED_FILE
            if not marker.exists():
                self._record_received(batch.series_instance_uid, paths)
                marker.touch()

    def _record_received(self, series_uid: str, files: Iterable[Path | BinaryIO]) -> None:
        for sender, instances in _by_sender_and_patient(files, self._opened):
            address = self._addresses.get((series_uid, sender)) or self._hosts.get(sender, "")
            self._record(self._messages.received(_now(), Transfer(instances, sender, address)))

    def begin_sending(self, batch: Batch, peer: str) -> list[str]:
        """Record what is to be sent to a destination, and return its SOP Instance UIDs for `sent`."""
        lacking: list[str] = []
        with self._logged("begin_sending"):
            stored = self._deliveries.record(batch, peer).stored
            lacking = sorted(self._spool.derived_instances(batch).keys() - stored.keys())
            for transfer in self._transfers(peer, self._lacking(batch, lacking), ""):
                self._record(self._messages.begin_sending(_now(), transfer))
        return lacking

    def sent(self, batch: Batch, peer: str, sop_uids: Sequence[str], refusal: str) -> None:
        """Record what was sent to a destination, or why it refused; nothing if it has confirmed all."""
        with self._logged("sent"):
            for transfer in self._transfers(peer, self._lacking(batch, sop_uids), refusal):
                self._record(self._messages.sent(_now(), transfer))

    def _lacking(self, batch: Batch, sop_uids: Sequence[str]) -> list[Path]:
        series = self._spool.derived_instances(batch)
        return [self._spool.outbox(batch) / series[uid] / f"{uid}.dcm" for uid in sop_uids if uid in series]

    def _transfers(self, name: str, paths: Sequence[Path], refusal: str) -> Iterator[Transfer]:
        peer = self._peers.get(name)
        ae_title, address = (peer.ae_title or name, peer.host) if peer else (name, "")
        for _, instances in _by_sender_and_patient(paths, self._opened):
            yield Transfer(instances, ae_title, address, refusal)

    @contextmanager
    def _logged(self, event: str) -> Iterator[None]:
        """Turn a fault into a line of the log: the image goes on without its audit message."""
        is_recorded = False
        with unforeseen_logged("audit.failed", message=event):
            yield
            is_recorded = True
        if not is_recorded:
            self._lost()


def export_messages(messages: Messages, user: str, folder: Path) -> list[AuditMessage]:
    """What to record of instances that a person copied to a folder."""
    instances = [_identity(path) for each in tree.walk(folder.resolve()) for path in tree.files(each, ".dcm")]
    return [messages.exported(_now(), user, folder.absolute().as_uri(), instances)]


def decision_messages(messages: Messages, user: str, decision: str, folders: Sequence[Path]) -> list[AuditMessage]:
    """What to record of delivered batches that a person is about to have made anew or sent once more."""
    received = [path for folder in folders for path in tree.files(folder, ".dcm")]
    return [messages.used_again(_now(), user, decision, each) for each in identities(received).values()]


def deletion_messages(messages: Messages, user: str, root: Path, folders: Sequence[Path]) -> list[AuditMessage]:
    """What to record of batches that a person is about to delete from the spool in ``root``."""
    deleted: dict[tuple[str, str], list[InstanceIdentity]] = {}
    for path in (path for folder in folders for path in tree.files(folder, ".dcm")):
        each = _identity(path)
        deleted.setdefault((each.patient_id, each.study_instance_uid), []).append(each)
    kept = _studies_of_others(root, folders) if deleted else set()
    return [
        messages.deleted(_now(), user, instances, is_whole_study=study not in kept)
        for (_, study), instances in deleted.items()
    ]


def _studies_of_others(root: Path, folders: Sequence[Path]) -> set[str]:
    """The studies of all batches but these; those of one batch are of one study, as those of a series are."""
    studies = set()
    for folder in (place for state in SeriesState for place in tree.walk(root.resolve() / state.value)):
        instances = tree.files(folder, ".dcm")
        if instances and folder not in folders:
            studies.add(_identity(instances[0]).study_instance_uid)
    return studies


def identities(files: Iterable[Path | BinaryIO], opened: Open = _open) -> dict[str, list[InstanceIdentity]]:
    """Whose instances these files hold, by patient."""
    found: dict[str, list[InstanceIdentity]] = {}
    for file in files:
        identity = _identity(file, opened)
        found.setdefault(identity.patient_id, []).append(identity)
    return found


def _by_sender_and_patient(
    files: Iterable[Path | BinaryIO], opened: Open
) -> Iterator[tuple[str, list[InstanceIdentity]]]:
    """A message may be about one patient only (PS3.15 A.5.3.3 and A.5.3.7), and has one source."""
    for instances in identities(files, opened).values():
        senders: dict[str, list[InstanceIdentity]] = {}
        for each in instances:
            senders.setdefault(each.source_ae_title, []).append(each)
        yield from senders.items()


def _identity(file: Path | BinaryIO, opened: Open = _open) -> InstanceIdentity:
    try:
        with outside_bytes(), opened(file) if isinstance(file, Path) else file as stream:
            return read_identity(stream)
    except IsclNodeError as error:
        _log.warning("audit.instance_not_read", fault=text_of(error))
        return _UNREADABLE


def _now() -> datetime:
    return datetime.now(UTC)
