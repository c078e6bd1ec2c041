"""Going on with the work of workers that are dead: their workflows go back into their queues.

The engine itself leaves a workflow to the worker that claimed it. Here the one that leads looks every second whether
the names of those that claimed something are still held.
"""

from collections.abc import Callable
from typing import Final

import structlog
from dbos import DBOS, WorkflowStatus

from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.leases import Lease, NoLease, free_names, in_place_of
from iscl_node.pipeline.engine.words import version
from iscl_node.pipeline.engine.workers import forget_worker

_log = structlog.get_logger(__name__)

LOOKS: Final = 4
"""A name that is free at so many looks in succession, a second apart, is that of a dead worker: when the database
starts again, all names are free until each worker has taken its own again."""


class Takeover:
    """Looks after workers that are dead.

    Parameters
    ----------
    lease : Lease
        Of this worker.
    clear : callable
        Removes what a dead worker, by its name, left half-received.
    count : callable
        Called with the number of workflows that were taken over.
    """

    def __init__(self, lease: Lease, clear: Callable[[str], object], count: Callable[[int], object]) -> None:
        self._lease = lease
        self._clear = clear
        self._count = count
        self._free: dict[str, int] = {}

    def look(self) -> int:
        """Look once, if this worker leads, and say how many workflows go on.

        Raises
        ------
        RetryLaterError
            The database refuses, or the lease is lost; a name that was not dealt with is dealt with later.
        """
        if not self._lease.leads:
            self._free = {}
            return 0
        free = free_names(self._lease, _claimants()) - {self._lease.worker.name}
        self._free = {name: self._free.get(name, 0) + 1 for name in free}
        return sum(self._take_over(name) for name in sorted(free) if self._free[name] >= LOOKS)

    def _take_over(self, name: str) -> int:
        """Resume what a worker claimed, under its name, so that neither it nor another one does the same."""
        with in_place_of(self._lease, name) as is_free:
            if not is_free:
                return 0
            resumed = self._resume(name)
            self._count(resumed)
            self._clear(name)
            with self._lease.connection() as connection:
                forget_worker(connection, name)
        self._free.pop(name)
        _log.warning("worker.taken_over", worker=name, workflows=resumed)
        return resumed

    def _resume(self, name: str) -> int:
        """Put them back, as long as this worker leads: one that was stopped (SIGSTOP) here may be late by a minute."""
        resumed = 0
        for each in _claimed(name):
            if not self._lease.leads:
                raise RetryLaterError("this worker leads no more")
            with not_waiting("resumes nothing"):
                DBOS.resume_workflow(each.workflow_id, queue_name=each.queue_name)
            resumed += 1
        return resumed


def takeover_of(
    lease: NoLease, clear: Callable[[str], object], count: Callable[[int], object]
) -> Callable[[], int] | None:
    """What is to be done every second, for the parameters see `Takeover`; None if this worker is alone."""
    return Takeover(lease, clear, count).look if isinstance(lease, Lease) else None


def _claimants() -> set[str]:
    """The names of those that claimed workflows of this version."""
    with not_waiting("does not answer"):
        found = DBOS.list_workflows(status="PENDING", app_version=version(), load_input=False, load_output=False)
    return {str(each.executor_id) for each in found}


def _claimed(name: str) -> list[WorkflowStatus]:
    with not_waiting("does not answer"):
        return DBOS.list_workflows(
            status="PENDING", executor_id=name, app_version=version(), load_input=False, load_output=False
        )
