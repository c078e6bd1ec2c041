"""Fetches studies from a peer's archive: series after series, no faster than the node works, and each once."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from iscl_node.errors import RetryLaterError
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NoAssociationError, NothingAcceptedError
from iscl_node.network.scu.query import MoveResult
from iscl_node.retry import Backoff
from iscl_node.store.records.fetched import Fetched

_TRIES: Final = 5
"""Of a series whose instances do not all arrive, before the next one has its turn."""

_Result = TypeVar("_Result")


class _GivenUpError(Exception):
    """A series, or a study, is left for the next time."""


class Source(Protocol):
    """The archive; each raises RetryLaterError."""

    def series(self, study_uid: str) -> Sequence[str]:
        """The UIDs of a study's series that are wanted."""

    def instances(self, study_uid: str, series_uid: str) -> Collection[str]:
        """The UIDs of a series' instances."""

    def move(self, study_uid: str, series_uid: str, sop_uids: Sequence[str]) -> MoveResult:
        """Have them sent to the node."""


@dataclass
class Progress:
    """How much there is, and how far it is."""

    studies: int
    study: int = 0
    series: int = 0
    instances: int = 0
    failed: int = 0
    fetched_before: int = 0


class Fetching:
    """Fetches.

    Parameters
    ----------
    source : Source
        From where.
    fetched : Fetched
        Remembers what is done.
    wait_for_turn : callable
        Returns when the next series may come.
    pause : callable
        Waits so many seconds.
    backoff : Backoff
        Between tries.
    report : callable
        Called with the progress, and what happened in words.
    """

    def __init__(
        self,
        source: Source,
        fetched: Fetched,
        wait_for_turn: Callable[[], None],
        pause: Callable[[float], None],
        backoff: Backoff,
        report: Callable[[Progress, str], None],
    ) -> None:
        self._source = source
        self._fetched = fetched
        self._wait_for_turn = wait_for_turn
        self._pause = pause
        self._backoff = backoff
        self._report = report

    def fetch(self, study_uids: Sequence[str]) -> Progress:
        """Fetch studies in this order.

        Raises
        ------
        NothingAcceptedError
            The peer does not offer what is needed.
        OSError
            The disk refuses the record.
        """
        progress = Progress(len(study_uids))
        for progress.study, study_uid in enumerate(study_uids, start=1):
            if self._fetched.has(study_uid):
                progress.fetched_before += 1
            else:
                self._study(study_uid, progress)
        return progress

    def _study(self, study_uid: str, progress: Progress) -> None:
        failed = progress.failed
        try:
            series_uids = self._tried(partial(self._source.series, study_uid), progress)
        except _GivenUpError as error:
            self._failed(study_uid, "", error, progress)
            return
        if not series_uids:
            progress.failed += 1
            self._report(progress, f"study {study_uid}: the peer has none of the series that are wanted")
            return
        for series_uid in series_uids:
            if not self._fetched.has(study_uid, series_uid):
                self._series(study_uid, series_uid, progress)
        if progress.failed == failed:
            self._fetched.note(study_uid)

    def _series(self, study_uid: str, series_uid: str, progress: Progress) -> None:
        try:
            instances = self._tried(partial(self._moved, study_uid, series_uid), progress)
        except _GivenUpError as error:
            self._failed(study_uid, series_uid, error, progress)
            return
        self._fetched.note(study_uid, series_uid, instances)
        progress.series, progress.instances = progress.series + 1, progress.instances + instances
        self._report(progress, f"series {series_uid}: {instances} instances")

    def _moved(self, study_uid: str, series_uid: str) -> int:
        """Have a series sent to the node; of what it has, a repetition is no new work for it."""
        self._wait_for_turn()
        sop_uids = sorted(self._source.instances(study_uid, series_uid))
        result = self._source.move(study_uid, series_uid, sop_uids)
        missing = len(sop_uids) - result.completed - result.warnings
        if missing > 0 or not sop_uids:
            raise RetryLaterError(f"{missing} of {len(sop_uids)} instances were not sent, or not taken by the node")
        return len(sop_uids)

    def _failed(self, study_uid: str, series_uid: str, error: Exception, progress: Progress) -> None:
        progress.failed += 1
        self._fetched.note(study_uid, series_uid, reason=str(error))
        self._report(progress, f"series {series_uid} of study {study_uid} is not fetched: {error}")

    def _tried(self, attempt: Callable[[], _Result], progress: Progress) -> _Result:
        """Try again: without end while the peer cannot be reached, some times for all else."""
        tries = unreachable = 0
        while True:
            try:
                return attempt()
            except NothingAcceptedError:
                raise
            except ServiceRefusedError as error:
                raise _GivenUpError(str(error)) from error
            except NoAssociationError as error:
                unreachable += 1
                self._again(error, unreachable - 1, progress)
            except RetryLaterError as error:
                tries += 1
                if tries == _TRIES:
                    raise _GivenUpError(str(error)) from error
                self._again(error, tries - 1, progress)

    def _again(self, error: RetryLaterError, tries: int, progress: Progress) -> None:
        seconds = self._backoff.wait_seconds(tries)
        self._report(progress, f"{error}; again in {seconds:.0f} s")
        self._pause(seconds)
