"""What a person decides on the page: requeue, redo, resend, release, export. Who did it is recorded before."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from iscl_node.audit.messages import Messages
from iscl_node.audit.schema import AuditMessage
from iscl_node.domain import SeriesState, SetAsideBatch
from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.audit.what_happened import decision_messages, deletion_messages, export_messages
from iscl_node.store.again import delivered_folders, redo, resend
from iscl_node.store.leaving.export import export
from iscl_node.store.leaving.retention import discard
from iscl_node.store.records.actions import note_action
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)

RecordAudit = Callable[[Callable[[Messages], Sequence[AuditMessage]]], None]
"""Records audit messages durably, if the node has an audit trail; raises OSError if it cannot."""

SET_ASIDE = (SeriesState.QUARANTINE, SeriesState.IGNORED)
"""States out of which a series can be requeued."""


class Decisions:
    """Does what a person decided about a series.

    Parameters
    ----------
    spool : Spool
        Holds it.
    audit : callable
        See :data:`RecordAudit`.
    destinations : collection of str
        The peers that may receive.
    running_seconds : callable, optional
        How long the node has run so far.
    """

    def __init__(
        self,
        spool: Spool,
        audit: RecordAudit,
        destinations: Collection[str] = (),
        running_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._spool = spool
        self._audit = audit
        self._destinations = frozenset(destinations)
        self._running_seconds = running_seconds

    def requeue(self, series_uid: str, user: str) -> int:
        """Give a series that is set aside another try, and say how many batches.

        Raises
        ------
        RetryLaterError
            It cannot be recorded or done now.
        """
        try:
            self._note("requeued", user, series_uid)
            return len(self._spool.requeue(series_uid, _now()))
        except OSError as error:
            raise _refused(error) from error

    def redo(self, series_uid: str, user: str) -> bool:
        """Have a delivered series made anew as the settings are now; False if it is not delivered, or not here.

        Raises
        ------
        RetryLaterError
            It cannot be recorded or done now.
        """
        try:
            self._note_use("redone", user, series_uid)
            return redo(self._spool, series_uid, _now()) is not None
        except OSError as error:
            raise _refused(error) from error

    def resend(self, series_uid: str, destination: str, user: str) -> int:
        """Have a delivered series sent once more, to a destination or, without a name, to all; say how many objects.

        Raises
        ------
        RetryLaterError
            It cannot be recorded or done now.
        """
        chosen = self._destinations & {destination} if destination else self._destinations
        try:
            self._note_use("resent", user, series_uid)
            return sum(resend(self._spool, series_uid, chosen, self._running_seconds()).values())
        except OSError as error:
            raise _refused(error) from error

    def release(self, series_uid: str, key: str, user: str) -> int:
        """Delete a batch in quarantine for good, and say how many: 1, or 0 if it is not there.

        Raises
        ------
        RetryLaterError
            It cannot be recorded or done now.
        """
        chosen = [each for each in self._spool.quarantined() if _is(each, series_uid, key)]
        folders = [each.folder for each in chosen]
        try:
            if chosen:
                self._note("released", user, series_uid)
                self._audit(lambda messages: deletion_messages(messages, user, self._spool.root, folders))
            return discard(self._spool.root, chosen, user, _now())
        except OSError as error:
            raise _refused(error) from error

    def export(self, series_uid: str, user: str) -> Path | None:
        """Make a ZIP file of all that the spool has of a series; None if that is nothing. The caller removes it.

        Raises
        ------
        RetryLaterError
            It cannot be recorded or done now.
        """
        folder = Path(tempfile.mkdtemp(prefix="iscl-node-export-"))
        try:
            if not export(self._spool.root, series_uid, folder / "series"):
                return None
            self._note("exported", user, series_uid)
            self._audit(lambda messages: export_messages(messages, user, folder / "series"))
            packed = Path(tempfile.mkstemp(prefix="iscl-node-export-", suffix=".zip")[1])
            return Path(shutil.make_archive(str(packed.with_suffix("")), "zip", folder / "series"))
        except OSError as error:
            raise _refused(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _note_use(self, event: str, user: str, series_uid: str) -> None:
        folders = delivered_folders(self._spool, series_uid)
        self._note(event, user, series_uid)
        self._audit(lambda messages: decision_messages(messages, user, event, folders))

    def _note(self, event: str, user: str, series_uid: str) -> None:
        note_action(self._spool.root, event, user, series_uid, _now())
        _log.info("decision.recorded", decision=event, user=user, series_uid=series_uid)


def _is(each: SetAsideBatch, series_uid: str, key: str) -> bool:
    return (each.batch.series_instance_uid, each.batch.key) == (series_uid, key)


def _refused(error: OSError) -> RetryLaterError:
    return RetryLaterError(f"it cannot be done, or not be recorded: {error.strerror}")


def _now() -> datetime:
    return datetime.now(UTC)
