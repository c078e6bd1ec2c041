"""Storage commitments that were asked for, and the reports on them: two files for each, in a folder of the spool.

::

    commitments/<transaction>.json           for which batch and destination; there before the destination is asked
    commitments/<transaction>.report.json    what it reported; there before its report is answered

They are kept until their batch reaches its end.
"""

import json
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from iscl_node.domain import Batch, CommitmentReport
from iscl_node.store import tree
from iscl_node.store.durable import replace_synced
from iscl_node.store.layout import Layout

_REPORT = ".report.json"


@dataclass(frozen=True)
class Transaction:
    """One request for storage commitment.

    ``round`` is how often the destination turned out not to have all of the batch before; ``asked`` is the time of the
    request in seconds since the epoch.
    """

    uid: str
    batch: Batch
    destination: str
    round: int
    asked: float


class Commitments:
    """Keeps requests and reports; safe to be used by several threads of one process.

    Parameters
    ----------
    root : Path
        The folder of the spool, with its folders in it.
    """

    def __init__(self, root: Path) -> None:
        self._folder = Layout(root).commitments
        self._lock = threading.Lock()
        self._transactions: dict[str, Transaction] = {}
        self._load()

    def _load(self) -> None:
        """Take up what an earlier process left; a report whose request is gone, or half a file, goes."""
        for path in tree.files(self._folder, ".json"):
            if not path.name.endswith(_REPORT):
                with suppress(ValueError, KeyError, TypeError):
                    transaction = _transaction(path)
                    self._transactions[transaction.uid] = transaction
        for path in tree.files(self._folder):
            if path.name.split(".json")[0].removesuffix(".report") not in self._transactions:
                path.unlink(missing_ok=True)

    def begin(self, batch: Batch, destination: str, round_: int, now: float) -> Transaction:
        """Draw the UID of a new request (PS3.5 B.2) and write it down, durably.

        Raises
        ------
        OSError
            The disk refuses it.
        """
        transaction = Transaction(f"2.25.{uuid.uuid4().int}", batch, destination, round_, now)
        entry = {
            "series": batch.series_instance_uid,
            "key": batch.key,
            "destination": destination,
            "round": round_,
            "asked": now,
        }
        with self._lock:
            replace_synced(self._folder / f"{transaction.uid}.json", json.dumps(entry).encode())
            self._transactions[transaction.uid] = transaction
        return transaction

    def of(self, batch: Batch, destination: str, round_: int) -> list[Transaction]:
        """The requests for a batch at a destination in a round, oldest first."""
        with self._lock:
            known = list(self._transactions.values())
        found = [t for t in known if (t.batch, t.destination, t.round) == (batch, destination, round_)]
        return sorted(found, key=lambda transaction: transaction.asked)

    def destination_of(self, transaction_uid: str) -> str | None:
        """Whom a request went to; None if there is no such request."""
        with self._lock:
            transaction = self._transactions.get(transaction_uid)
        return None if transaction is None else transaction.destination

    def keep_report(self, report: CommitmentReport) -> bool:
        """Write down what a destination reported, durably; False if nothing of the kind was asked for.

        Raises
        ------
        OSError
            The disk refuses it.
        """
        entry = {"committed": sorted(report.committed), "failed": dict(report.failed)}
        with self._lock:
            if report.transaction_uid not in self._transactions:
                return False
            replace_synced(self._folder / f"{report.transaction_uid}{_REPORT}", json.dumps(entry).encode())
        return True

    def is_reported(self, transaction_uid: str) -> bool:
        """Whether there is a report on a request."""
        return (self._folder / f"{transaction_uid}{_REPORT}").exists()

    def report(self, transaction: Transaction) -> CommitmentReport | None:
        """What was reported on a request; None if nothing was."""
        try:
            entry = json.loads((self._folder / f"{transaction.uid}{_REPORT}").read_bytes())
        except FileNotFoundError:
            return None
        return CommitmentReport(transaction.uid, frozenset(entry["committed"]), entry["failed"])

    def forget(self, transaction: Transaction) -> None:
        """Remove a request that was not taken, and what was reported on it."""
        with self._lock:
            self._transactions.pop(transaction.uid, None)
            for name in (f"{transaction.uid}.json", f"{transaction.uid}{_REPORT}"):
                (self._folder / name).unlink(missing_ok=True)

    def forget_all_but(self, batches: Iterable[Batch]) -> None:
        """Remove the requests for batches that reached their end, which is every batch but these."""
        kept = set(batches)
        with self._lock:
            ended = [each for each in self._transactions.values() if each.batch not in kept]
        for transaction in ended:
            self.forget(transaction)


def _transaction(path: Path) -> Transaction:
    entry = json.loads(path.read_bytes())
    batch = Batch(entry["series"], entry["key"])
    return Transaction(path.name.removesuffix(".json"), batch, entry["destination"], entry["round"], entry["asked"])
