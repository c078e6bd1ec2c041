"""Keeps a worker from going on with what another one may have taken over.

The engine records no step of a workflow that another one took over. What a step does outside of the database, such as
sending, is asked for here: before each step, and within a long one.
"""

from typing import Final

from dbos import DBOS
from dbos._context import current_owner_xid
from dbos._dbos import _get_dbos_instance

from iscl_node.pipeline.engine.leases import NO_LEASE, NoLease
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.words import DatabaseError

_LOOK_SECONDS = 0.2
_REMEMBERED: Final = 10_000
"""Runs that were found to be this worker's; the others are looked up again."""


class Fence(Shutdown):
    """Lets a workflow go on when it is certainly this worker's: it waits as long as that is in doubt.

    Parameters
    ----------
    lease : NoLease
        Of this worker; it is in doubt when the database does not answer, and after the process was stopped for a while.
    """

    def __init__(self, lease: NoLease) -> None:
        super().__init__()
        self._lease = lease
        self._owned: dict[str, int] = {}

    def check(self) -> None:
        """Leave the workflow if the node is stopping or another worker goes on with it.

        Raises
        ------
        NodeStopping
        DBOSBaseException
            Another worker goes on with it; the engine lets it.
        """
        super().check()
        run = _run()
        while run is not None and not self._is_certain(run):
            self._look(run)

    def _is_certain(self, run: str) -> bool:
        return self._owned.get(run) == self._lease.generation and self._lease.is_fresh

    def _look(self, run: str) -> None:
        while not self._lease.is_fresh:
            self._pause()
        generation = self._lease.generation
        try:
            _assert_owned(run)
        except DatabaseError:
            self._pause()
            return
        if len(self._owned) >= _REMEMBERED:
            self._owned.clear()
        self._owned[run] = generation

    def _pause(self) -> None:
        self._stopping.wait(_LOOK_SECONDS)
        super().check()


def fence_of(lease: NoLease) -> Shutdown:
    """The fence of a worker; of one that is alone only its end is asked for."""
    return Shutdown() if lease is NO_LEASE else Fence(lease)


def _run() -> str | None:
    """What names this run of this workflow; None outside of a workflow."""
    identity = DBOS.workflow_id
    return None if identity is None else current_owner_xid(identity)


def _assert_owned(run: str) -> None:
    database = _get_dbos_instance()._sys_db
    assert DBOS.workflow_id is not None
    with database.engine.begin() as connection:
        database._check_owner_txn(connection, DBOS.workflow_id, run)
