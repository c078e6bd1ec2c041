"""Several nodes on one spool and one PostgreSQL: the whole program, several times."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from node import Node, wait_for
from postgresql import PostgresqlServer
from psycopg import sql
from pydicom.dataset import FileDataset

_ROWS = (
    "SELECT count(*) FROM dbos.operation_outputs "
    "WHERE workflow_uuid LIKE {0} || '/%' AND function_name NOT LIKE 'DBOS%'"
)
_CLAIMED = "SELECT executor_id FROM dbos.workflow_status WHERE status = 'PENDING' AND workflow_uuid LIKE {0} || '/%'"


class Fleet:
    """Nodes that share a spool.

    Parameters
    ----------
    folder : Path
        For everything they write.
    server : PostgresqlServer
        Their database.
    archive_port : int
        Where they deliver.
    bundle : Path
        The model.
    """

    def __init__(self, folder: Path, server: PostgresqlServer, archive_port: int, bundle: Path) -> None:
        self._folder = folder
        self._url = server.url("fleet")
        self._archive_port = archive_port
        self._bundle = bundle
        self.nodes: dict[str, Node] = {}

    def make(self, name: str, role: str, quiet_seconds: float = 0.5, confirm: str = "none") -> Node:
        """A node that is not started yet."""
        node = Node(self._folder / name, self._archive_port, self._bundle, quiet_seconds, confirm=confirm)
        shared = self._folder / "spool"
        own = f'database_url = "{self._url}"\nworker_name = "{name}"\nrole = "{role}"\n'
        node.change_settings(f'spool_dir = "{node.spool}"\n', f'spool_dir = "{shared}"\n{own}')
        node.spool = shared
        self.nodes[name] = node
        return node

    def start(self) -> None:
        """Start all, at once, and wait until they are ready."""
        for node in self.nodes.values():
            node.begin()
        for node in self.nodes.values():
            wait_for(node._is_ready, "the node is ready", node.log_tail, 240)

    def close(self) -> None:
        """Leave nothing running."""
        for node in self.nodes.values():
            node.close()

    def workers(self) -> dict[str, dict[str, Any]]:
        """What `status` tells of each."""
        told = next(iter(self.nodes.values())).status()["workers"]
        return {each["worker"]: each for each in told}

    def steps_of(self, series_uid: str) -> int:
        """How many steps of a series' workflows are recorded."""
        return int(self._asked(_ROWS, series_uid)[0])

    def holder_of(self, series_uid: str) -> str | None:
        """The name of the worker that works on a series; None if none does."""
        found = self._asked(_CLAIMED, series_uid)
        return str(found[0]) if found else None

    def _asked(self, statement: str, series_uid: str) -> Sequence[Any]:
        with psycopg.connect(self._url) as connection:
            query = sql.SQL(statement).format(sql.Literal(series_uid))
            return connection.execute(query).fetchone() or ()

    def wait_until_done(self, series: Sequence[Sequence[FileDataset]], seconds: float) -> None:
        """Wait until all of some series are delivered."""
        node = next(iter(self.nodes.values()))
        for uid in [str(each[0].SeriesInstanceUID) for each in series]:
            wait_for(partial(self._is_done, node, uid), "the end", self.logs, seconds)

    def _is_done(self, node: Node, series_uid: str) -> bool:
        return node.states(series_uid) == {"done"}

    def has_steps(self, series_uid: str, count: int) -> bool:
        """Whether so many steps of a series' workflows are recorded."""
        return self.steps_of(series_uid) >= count

    def all_logs(self) -> str:
        """All logs."""
        return "\n".join(node.log() for node in self.nodes.values())

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {name}\n{node.log_tail()}" for name, node in self.nodes.items())


@contextmanager
def closing(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, for the length of a ``with`` block."""
    try:
        yield fleet
    finally:
        fleet.close()
