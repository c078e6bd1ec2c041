"""Who works on a spool now, and on what; for commands, which are no workers."""

from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from iscl_node.errors import ConfigurationError
from iscl_node.pipeline.engine.database_faults import reason
from iscl_node.pipeline.engine.workers import (
    LEADER_KEY,
    Worker,
    held_keys,
    make_tables,
    note_spool,
    noted_workers,
    session,
    worker_key,
)

_CLAIMED = "SELECT executor_id, workflow_uuid FROM dbos.workflow_status WHERE status = 'PENDING' ORDER BY workflow_uuid"


@dataclass(frozen=True)
class WorkerState:
    """A worker: whether it lives and leads, and the identities of the workflows that it claimed and did not end."""

    worker: Worker
    is_alive: bool
    leads: bool
    workflows: tuple[str, ...]


def census(database_url: str) -> list[WorkerState]:
    """All workers that hold a name, or whose work waits to be taken over, sorted by name.

    Raises
    ------
    ConfigurationError
        The database cannot be used.
    """
    try:
        with session(database_url) as connection:
            make_tables(connection)
            return _counted(connection)
    except SQLAlchemyError as error:
        raise ConfigurationError(f"the workflow database cannot be used: {reason(error, database_url)}") from error


def _counted(connection: Connection) -> list[WorkerState]:
    held, noted = held_keys(connection), noted_workers(connection)
    claimed: dict[str, list[str]] = {}
    if connection.execute(text("SELECT to_regclass('dbos.workflow_status')")).scalar() is not None:
        for name, identity in connection.execute(text(_CLAIMED)):
            claimed.setdefault(name, []).append(identity)
    unknown = {name: Worker(name, "unknown", "", "", 0) for name in claimed if name not in noted}
    leader = held.get(LEADER_KEY)
    states = []
    for name, worker in sorted((noted | unknown).items()):
        backend = held.get(worker_key(name))
        leads = backend is not None and backend == leader
        states.append(WorkerState(worker, backend is not None, leads, tuple(claimed.get(name, ()))))
    return states


def adopt_spool(database_url: str, spool_id: str) -> None:
    """Have the database belong to a spool, whichever it belonged to before.

    Raises
    ------
    ConfigurationError
        The database cannot be used.
    """
    try:
        with session(database_url) as connection:
            make_tables(connection)
            note_spool(connection, spool_id)
    except SQLAlchemyError as error:
        raise ConfigurationError(f"the workflow database cannot be used: {reason(error, database_url)}") from error
