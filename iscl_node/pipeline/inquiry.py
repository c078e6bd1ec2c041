"""Whether a destination keeps what was sent: by Storage Commitment, by C-FIND, or by the one and else the other."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from iscl_node.dicom.folder import read_instance
from iscl_node.domain import Batch, CommitmentReport, InstanceReference, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.answers import ServiceRefusedError
from iscl_node.network.association import NothingAcceptedError
from iscl_node.store.commitments import Commitments, Transaction
from iscl_node.store.deliveries import DeliveryRecord
from iscl_node.store.spool import Spool

Commit = Callable[[Peer, str, Sequence[InstanceReference]], CommitmentReport | None]
"""Asks a peer for storage commitment under a transaction UID; None if the report comes later."""

Find = Callable[[Peer, str, str, Collection[str]], frozenset[str]]
"""Tells which SOP Instance UIDs a peer has of a study and a series; of these ones in any case."""

COMMITMENT = "commitment"
QUERY = "query"

_NEVER = {0x0119: "class-instance conflict", 0x0122: "SOP Class not supported"}
"""Failure Reasons (PS3.3 C.14.1.1) that sending again will not change: another object has this UID there, or this
destination commits nothing of the kind. All others, and no mention at all, mean that it is to be sent again."""


@dataclass(frozen=True)
class Answer:
    """What a destination said: by which ``way``, what it lacks and why, by SOP Instance UID, and why it refuses."""

    way: str
    lacking: Mapping[str, str]
    refusal: str = ""
    transaction_uid: str = ""


class Inquiry:
    """Asks one destination.

    Parameters
    ----------
    peer : Peer
        The destination.
    spool : Spool
        Has the instances.
    commitments : Commitments
        Keeps requests and reports.
    commit, find : callable
        See :data:`Commit` and :data:`Find`.
    report_seconds : float
        How long to wait for the report on a request for storage commitment.
    """

    def __init__(
        self, peer: Peer, spool: Spool, commitments: Commitments, commit: Commit, find: Find, report_seconds: float
    ) -> None:
        self._peer = peer
        self._spool = spool
        self._commitments = commitments
        self._commit = commit
        self._find = find
        self._report_seconds = report_seconds
        self._asked: set[str] = set()

    def ask(self, batch: Batch, record: DeliveryRecord) -> Answer | None:
        """Ask for everything that the destination stored of a batch; None if its answer is still to come.

        Raises
        ------
        RetryLaterError
            It cannot be asked now.
        NothingAcceptedError, ServiceRefusedError
            It offers no service by which it could tell, or refuses what it offers.
        OSError
            The disk refuses it, or the batch is there no more.
        """
        if self._peer.confirm == QUERY:
            return self._queried(batch, record)
        transactions = self._commitments.of(batch, self._peer.name, record.rounds)
        for each in transactions:
            report = self._commitments.report(each)
            if report is not None:
                return _judged(self._peer, report, record)
        if any(map(self._is_waited_for, transactions)):
            return None
        if self._peer.confirm == COMMITMENT:
            return self._committed(batch, record)
        ways = [self._committed, self._queried]
        if any(map(self._is_overdue, transactions)):
            ways.reverse()
        try:
            return ways[0](batch, record)
        except (NothingAcceptedError, ServiceRefusedError):
            return ways[1](batch, record)

    def _is_waited_for(self, transaction: Transaction) -> bool:
        """Whether its report may still come; not after a restart: it may have come in vain, or was never asked for."""
        return transaction.uid in self._asked and not self._is_overdue(transaction)

    def _committed(self, batch: Batch, record: DeliveryRecord) -> Answer | None:
        transaction = self._commitments.begin(batch, self._peer.name, record.rounds, time.time())
        references = [InstanceReference(sop_class, uid) for uid, sop_class in record.stored.items()]
        try:
            report = self._commit(self._peer, transaction.uid, references)
        except RetryLaterError as error:
            # The first stays: if a peer never answers, C-FIND has its turn after the time for a report. Or it did come.
            is_first = len(self._commitments.of(batch, self._peer.name, record.rounds)) == 1
            if not is_first or isinstance(error, NothingAcceptedError | ServiceRefusedError):
                self._commitments.forget(transaction)
            raise
        self._asked.add(transaction.uid)
        return None if report is None else _judged(self._peer, report, record)

    def _is_overdue(self, transaction: Transaction) -> bool:
        """Whether the report should have come; a clock that was set back may only make it overdue too early."""
        return abs(time.time() - transaction.asked) >= self._report_seconds

    def _queried(self, batch: Batch, record: DeliveryRecord) -> Answer | None:
        series_of = self._spool.derived_instances(batch)
        found: set[str] = set()
        for series_uid in sorted(set(series_of.values())):
            sent = [uid for uid in record.stored if series_of.get(uid) == series_uid]
            study_uid = str(read_instance(self._spool.derived(batch, series_uid)[0]).StudyInstanceUID)
            found |= self._find(self._peer, study_uid, series_uid, sent)
        return Answer(QUERY, dict.fromkeys(record.stored.keys() - found, "not found by C-FIND"))


def _judged(peer: Peer, report: CommitmentReport, record: DeliveryRecord) -> Answer:
    """What a report means; only what it says is committed counts as that."""
    lacking, refusal = {}, ""
    for uid in record.stored.keys() - report.committed:
        reason = report.failed.get(uid)
        lacking[uid] = "not in the report" if reason is None else f"{reason:04X}"
        if reason in _NEVER:
            refusal = f"peer {peer.name} commits to none of it: failure reason {reason:04X} ({_NEVER[reason]})"
    return Answer(COMMITMENT, lacking, refusal, report.transaction_uid)
