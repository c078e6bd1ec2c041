"""Reports to senders which of their instances are kept: when an archive says so, or when they are in the spool.

A sender may delete what is committed. With "archived" an instance is committed when a destination says that it keeps
that very instance: by Storage Commitment or, where that is not offered, by C-FIND. What no destination keeps in time
is reported as failed, and stays with its sender. What was found out is lost at a restart, and asked anew.
"""

import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from iscl_node.domain import CommitmentReport, InstanceReference, Peer
from iscl_node.domain.commitment import Commit, CommitmentRequest
from iscl_node.errors import OutsideBytesError, RetryLaterError
from iscl_node.logs import unforeseen_logged
from iscl_node.network.commitment_reports import UnknownTransactionError
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NothingAcceptedError
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.retry import Backoff
from iscl_node.store.inventory import places_of
from iscl_node.store.layout import Layout
from iscl_node.store.records.commitment_requests import CommitmentRequests
from iscl_node.store.spool import Spool

_POLL_SECONDS: Final = 1.0
_NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
_PROCESSING_FAILURE: Final = 0x0110
"""Failure Reasons (PS3.3 C.14.1.1): the node never had it; no archive keeps it."""
_LAST_TRIES: Final = 2
"""So many times as long as an archive has, a sender is called for its report: then it has to ask anew."""

_log = structlog.get_logger(__name__)


class Calls(Protocol):
    """Calls of the node to its peers; `assembly.calling.Calling` makes them."""

    def commit(
        self, peer: Peer, transaction_uid: str, instances: Sequence[InstanceReference]
    ) -> CommitmentReport | None:
        """Request storage commitment; the report, if it comes at once."""

    def find(self, peer: Peer, study_uid: str, series_uid: str, sent: Collection[str] = ()) -> frozenset[str]:
        """The SOP Instance UIDs that a peer has of a series."""

    def report(self, peer: Peer, report: CommitmentReport, asked: Sequence[InstanceReference]) -> None:
        """Report to a sender which of its instances are kept."""


@dataclass
class _Progress:
    """What is known of a request; lost at a restart."""

    committed: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    """Names of destinations whose report is to come."""
    tries: int = 0
    due: float = 0.0


class SenderCommitments:
    """Keeps the requests of senders, finds out, and reports.

    Parameters
    ----------
    commit : "archived" or "received"
        When an instance is committed.
    spool : Spool
        Where the instances are.
    peers : mapping of str to Peer
        Senders, and destinations.
    calls : Calls
        To both.
    backoff : Backoff
        Between tries.
    archive_seconds : float
        How long an archive has to say that it keeps an instance.
    headers : KeptHeaders
        Reads to which study a series belongs.
    """

    def __init__(
        self,
        commit: Commit,
        spool: Spool,
        peers: Mapping[str, Peer],
        calls: Calls,
        backoff: Backoff,
        archive_seconds: float,
        headers: KeptHeaders,
    ) -> None:
        self._commit = commit
        self._layout = Layout(spool.root)
        self._requests = CommitmentRequests(spool.root)
        self._senders = {
            peer.ae_title: peer for peer in peers.values() if peer.may_store and peer.host and peer.web is None
        }
        self._archives = [peer for peer in peers.values() if peer.may_receive and peer.confirm != "none"]
        self._calls = calls
        self._backoff = backoff
        self._archive_seconds = archive_seconds
        self._headers = headers
        self._lock = threading.Lock()
        self._progress: dict[CommitmentRequest, _Progress] = {}
        self._transactions: dict[str, tuple[Peer, CommitmentRequest]] = {}

    def keep(self, request: CommitmentRequest) -> None:
        """Take a request; on return it is durable.

        Raises
        ------
        PermissionError
            Nothing can be reported to this sender: it is no peer that may store, or has no host.
        RetryLaterError
            The disk refuses it.
        """
        if request.ae_title not in self._senders:
            raise PermissionError("a report needs a [[peers]] entry of the sender with host and port")
        try:
            self._requests.keep(request)
        except OSError as error:
            raise RetryLaterError(f"the request cannot be kept: {error.strerror}") from error

    def keep_report(self, ae_title: str, report: CommitmentReport) -> None:
        """Take the report of an archive on what was asked for a sender.

        Raises
        ------
        UnknownTransactionError
            This peer was not asked for it.
        """
        with self._lock:
            archive, request = self._transactions.get(report.transaction_uid, (None, None))
            if archive is None or request is None or archive.ae_title != ae_title:
                raise UnknownTransactionError("this peer was not asked for it")
            del self._transactions[report.transaction_uid]
            progress = self._progress.setdefault(request, _Progress())
            progress.committed |= report.committed
            progress.asked.discard(archive.name)
            progress.due = 0.0

    def look(self) -> None:
        """Find out about each request whose time has come, and report."""
        waiting = list(self._requests.waiting())
        with self._lock:
            self._progress = {each: self._progress.get(each, _Progress()) for each in waiting}
            transactions = self._transactions.items()
            self._transactions = {uid: asked for uid, asked in transactions if asked[1] in self._progress}
        for request in waiting:
            if self._progress[request].due <= time.monotonic():
                with unforeseen_logged("commitment_request.failed", ae_title=request.ae_title):
                    self._pursue(request, self._progress[request])

    def _pursue(self, request: CommitmentRequest, progress: _Progress) -> None:
        progress.due = time.monotonic() + self._backoff.wait_seconds(progress.tries)
        progress.tries += 1
        uids = {each.sop_instance_uid for each in request.instances}
        places = places_of(self._layout, uids)
        if self._commit == "received":
            progress.committed |= places.keys()
        else:
            self._ask(request, progress, places)
        open_ = places.keys() - progress.committed
        waited_seconds = abs(time.time() - request.since)
        if open_ and waited_seconds < self._archive_seconds:
            return
        failed = dict.fromkeys(uids - places.keys(), _NO_SUCH_OBJECT_INSTANCE) | dict.fromkeys(
            open_, _PROCESSING_FAILURE
        )
        failed = {uid: reason for uid, reason in failed.items() if uid not in progress.committed}
        self._report(request, CommitmentReport(request.transaction_uid, frozenset(uids - failed.keys()), failed))

    def _report(self, request: CommitmentRequest, report: CommitmentReport) -> None:
        counts = {"ae_title": request.ae_title, "committed": len(report.committed), "failed": len(report.failed)}
        sender = self._senders.get(request.ae_title)
        try:
            if sender is not None:
                self._calls.report(sender, report, request.instances)
        except RetryLaterError as error:
            if abs(time.time() - request.since) < _LAST_TRIES * self._archive_seconds:
                _log.warning("commitment_request.retry_scheduled", reason=str(error), **counts)
                return
            _log.error("commitment_request.abandoned", reason=str(error), **counts)
        else:
            _log.info("commitment_request.reported", **counts)
        self._requests.remove(request)

    def _ask(self, request: CommitmentRequest, progress: _Progress, places: Mapping[str, Path]) -> None:
        """Ask each destination for what none of those before it keeps."""
        for archive in self._archives:
            open_ = places.keys() - progress.committed
            if not open_:
                return
            references = [each for each in request.instances if each.sop_instance_uid in open_]
            try:
                progress.committed |= self._kept(archive, request, progress, references, places)
            except RetryLaterError as error:
                _log.info("commitment_request.postponed", peer=archive.name, reason=str(error))

    def _kept(
        self,
        archive: Peer,
        request: CommitmentRequest,
        progress: _Progress,
        references: Sequence[InstanceReference],
        places: Mapping[str, Path],
    ) -> frozenset[str]:
        """What an archive says at once that it keeps."""
        wanted = {each.sop_instance_uid: places[each.sop_instance_uid] for each in references}
        is_to_report = archive.confirm == "auto" and archive.name in progress.asked
        if archive.web is not None or archive.confirm == "query" or is_to_report:
            return self._found(archive, wanted)
        try:
            return self._committed(archive, request, progress, references)
        except (NothingAcceptedError, ServiceRefusedError):
            if archive.confirm == "commitment":
                raise
            return self._found(archive, wanted)

    def _committed(
        self,
        archive: Peer,
        request: CommitmentRequest,
        progress: _Progress,
        references: Sequence[InstanceReference],
    ) -> frozenset[str]:
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        with self._lock:
            self._transactions[transaction_uid] = archive, request
            progress.asked.add(archive.name)
        report = self._calls.commit(archive, transaction_uid, references)
        if report is None:
            return frozenset()
        with self._lock:
            self._transactions.pop(transaction_uid, None)
            progress.asked.discard(archive.name)
        return report.committed

    def _found(self, archive: Peer, wanted: Mapping[str, Path]) -> frozenset[str]:
        """What an archive has by C-FIND, series by series."""
        kept: frozenset[str] = frozenset()
        series: dict[str, list[str]] = {}
        for uid, path in wanted.items():
            series.setdefault(path.relative_to(self._layout.root).parts[1], []).append(uid)
        for series_uid, uids in series.items():
            try:
                study_uid = str(self._headers.instance(wanted[uids[0]]).StudyInstanceUID)
            except (OSError, OutsideBytesError):  # it moves on; it is looked for anew
                continue
            kept |= self._calls.find(archive, study_uid, series_uid, uids) & set(uids)
        return kept


class CommitmentThread:
    """Looks again and again, as long as this node leads.

    Parameters
    ----------
    commitments : SenderCommitments or None
        What is looked at; None of a node that commits to nothing.
    lease : Leads
        Of this node.
    """

    def __init__(self, commitments: SenderCommitments | None, lease: "Leads") -> None:
        self._commitments = commitments
        self._lease = lease
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender-commitments", daemon=True)

    def start(self) -> None:
        """Begin."""
        if self._commitments is not None:
            self._thread.start()

    def stop(self) -> None:
        """Begin no further look; one that waits for a peer ends with the process."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            if self._lease.leads and self._commitments is not None:
                with unforeseen_logged("commitment_requests.failed"):
                    self._commitments.look()


class Leads(Protocol):
    """Says whether this node does what only one may do."""

    @property
    def leads(self) -> bool:
        """Whether it is this one."""
