"""Asks a destination whether it keeps what was sent: by Storage Commitment, by C-FIND, or by the one or the other."""

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

import structlog

from iscl_node.domain import Batch, CommitmentReport, InstanceReference, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NoAssociationError, NothingAcceptedError
from iscl_node.pipeline.delivery.answer import Answer, found, not_asked, not_now, refused, reported
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations, gone
from iscl_node.pipeline.disk_refusals import disk_refusals_retried
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.store.records.waits import Wait, Waits

Commit = Callable[[Peer, str, Sequence[InstanceReference]], CommitmentReport | None]
"""Asks a peer for storage commitment under a transaction UID; None if the report comes later."""

Find = Callable[[Peer, str, str, Collection[str]], frozenset[str]]
"""Finds which SOP Instance UIDs a peer has of a study and a series; of these ones in any case."""

_log = structlog.get_logger(__name__)

_FIRST_WAIT_SECONDS: Final = 5.0

_REPORT_TO_COME = "its report on storage commitment is waited for"
_NO_SERVICE = 'a destination without such a service needs confirm = "none"'


class Asking:
    """The step that asks.

    Parameters
    ----------
    destinations : Destinations
        What they stored.
    commit, find : callable
        See :data:`Commit` and :data:`Find`.
    deadline : Deadline
        When to give up.
    report_seconds : float
        How long to wait for the report on a request for storage commitment.
    headers : KeptHeaders, optional
        What is known of the instances without reading them.
    """

    def __init__(
        self,
        destinations: Destinations,
        commit: Commit,
        find: Find,
        deadline: Deadline,
        report_seconds: float,
        headers: KeptHeaders | None = None,
    ) -> None:
        self._destinations = destinations
        self._spool = destinations.spool
        self._commit = commit
        self._find = find
        self._deadline = deadline
        self.report_seconds = report_seconds
        self._waits = Waits(destinations.spool.root)
        self._headers = headers or KeptHeaders()
        self._told: dict[str, str] = {}

    def ask(self, batch: Batch, peer_name: str, transaction_uid: str, since: float) -> Answer | None:
        """Ask for everything that a destination stored of a batch; None if its report is still to come.

        A question that it refuses, or leaves unanswered, may be answered for other batches, and must not hold up
        theirs: it is asked again later. Without an association nothing can be asked, so that is tried again here.

        Parameters
        ----------
        batch, peer_name
            What, and whom.
        transaction_uid : str
            Of the request for storage commitment.
        since : float
            When it was asked first in this round, in seconds since the epoch.

        Raises
        ------
        RetryLaterError
            Nothing can be asked there now.
        """
        if not self._destinations.is_open(batch, peer_name):
            return not_asked()
        peer = self._destinations.peer(peer_name)
        if peer is None:
            return refused(gone(peer_name))
        try:
            answer = self._asked(batch, peer, transaction_uid, since)
        except RetryLaterError as error:
            end = self._deadline.end(batch, str(error))
            if end:
                return refused(end)
            if isinstance(error, NoAssociationError) or isinstance(error.__cause__, OSError):
                raise _with_hint(error) from error
            return self._not_now(batch, peer, str(_with_hint(error)), since)
        self._told.pop(peer.name, None)
        if answer is None:
            self._waits.note(batch, peer_name, Wait(_REPORT_TO_COME, time.time() + self.report_seconds))
        return answer

    def _not_now(self, batch: Batch, peer: Peer, reason: str, since: float) -> Answer:
        """Ask again after as long as it was refused so far, once a ``report_seconds`` in the end, and when overdue."""
        passed = abs(time.time() - since)
        wait_seconds = min(max(passed, _FIRST_WAIT_SECONDS), self.report_seconds)
        if passed < self.report_seconds:
            wait_seconds = min(wait_seconds, self.report_seconds - passed)
        self._waits.note(batch, peer.name, Wait(reason, time.time() + wait_seconds))
        if self._told.get(peer.name) != reason:  # once, not for each batch
            told = {"reason": reason, "wait_seconds": round(wait_seconds)}
            _log.warning("confirmation.retry_scheduled", batch=batch.key, peer=peer.name, **told)
        self._told[peer.name] = reason
        return not_now(wait_seconds)

    def _asked(self, batch: Batch, peer: Peer, transaction_uid: str, since: float) -> Answer | None:
        commit, query = partial(self._committed, batch, peer, transaction_uid), partial(self._queried, batch, peer)
        match peer.confirm:
            case "none":
                return not_asked()
            case "query":
                return query()
            case "commitment":
                return commit()
        ways: list[Callable[[], Answer | None]] = [commit, query]
        if self._is_overdue(since):
            ways.reverse()
        try:
            return ways[0]()
        except (NothingAcceptedError, ServiceRefusedError) as first:
            try:
                return ways[1]()
            except NothingAcceptedError as second:  # refused is then this question, maybe no other
                raise first if isinstance(first, ServiceRefusedError) else second from None

    def _is_overdue(self, since: float) -> bool:
        """Whether a report should have come; a clock that was set back may only make it overdue too early."""
        return abs(time.time() - since) >= self.report_seconds

    def _committed(self, batch: Batch, peer: Peer, transaction_uid: str) -> Answer | None:
        stored = self._destinations.record(batch, peer.name).stored
        references = [InstanceReference(sop_class, uid) for uid, sop_class in stored.items()]
        report = self._commit(peer, transaction_uid, references)
        return None if report is None else reported(report)

    def _queried(self, batch: Batch, peer: Peer) -> Answer:
        sop_uids: set[str] = set()
        series_of = self._spool.derived_instances(batch)
        stored = self._destinations.record(batch, peer.name).stored
        with disk_refusals_retried():
            for series_uid in sorted(set(series_of.values())):
                sent = [uid for uid in stored if series_of.get(uid) == series_uid]
                study_uid = str(self._headers.instance(self._spool.derived(batch, series_uid)[0]).StudyInstanceUID)
                sop_uids |= self._find(peer, study_uid, series_uid, sent)
        return found(sop_uids)


def _with_hint(error: RetryLaterError) -> RetryLaterError:
    has_none = isinstance(error, NothingAcceptedError | ServiceRefusedError)
    return RetryLaterError(f"{error}; {_NO_SERVICE}") if has_none else error
