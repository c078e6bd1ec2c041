"""What PostgreSQL knows of the workers of a spool, and of the spool itself: tables of ours beside the engine's.

A worker holds a session-level advisory lock under its name (https://www.postgresql.org/docs/15/explicit-locking.html),
so a lock that is free says that no process lives under that name. The tables say who it was.
"""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

SILENT_SECONDS: Final = 30
"""A session of which nothing is heard for so long ends, and its locks with it: its machine is gone, or it stopped."""

_CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""So that a server that vanished is missed in time (seconds, and milliseconds for the last)."""

_MAKING_SECONDS = 10
"""How long a database that is not there may take to be made."""
_LOCK_KEY = "(classid::bigint << 32) | objid::bigint"
"""How pg_locks shows the key of an advisory lock of one number."""
_TABLES = (
    "CREATE SCHEMA IF NOT EXISTS iscl_node",
    "CREATE TABLE IF NOT EXISTS iscl_node.workers (name text PRIMARY KEY, key bigint NOT NULL, role text NOT NULL, "
    "version text NOT NULL, host text NOT NULL, pid integer NOT NULL, since timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE IF NOT EXISTS iscl_node.spool (id text PRIMARY KEY)",
)


@dataclass(frozen=True)
class Worker:
    """A process that works on the spool."""

    name: str
    role: str
    version: str
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def key_of(name: str) -> int:
    """The key of an advisory lock."""
    return int.from_bytes(sha256(f"iscl-node/{name}".encode()).digest()[:8], "big", signed=True)


LEADER_KEY: Final = key_of("leader")
_TABLES_KEY: Final = key_of("tables")


def worker_key(name: str) -> int:
    """The key of the lock that a worker of this name holds."""
    return key_of(f"worker/{name}")


def session(database_url: str, application_name: str = "iscl-node") -> Connection:
    """A connection of its own, each statement of which counts at once; the database is made if it is not there.

    Raises
    ------
    SQLAlchemyError
        It cannot be connected to.
    """
    try:
        return _connected(database_url, application_name)
    except OperationalError:
        if not _is_made(database_url):
            raise
        return _connected(database_url, application_name)


def _connected(database_url: str, application_name: str) -> Connection:
    engine = _engine(database_url, application_name)
    connection = engine.connect()
    connection.execute(text(f"SET idle_session_timeout = '{SILENT_SECONDS}s'"))
    connection.execute(text("SET statement_timeout = '10s'"))
    return connection


def _engine(database_url: str, application_name: str, database: str | None = None) -> Engine:
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    arguments = {**_CONNECTION, "application_name": application_name}
    return create_engine(
        url if database is None else url.set(database=database),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=arguments,
    )


def _is_made(database_url: str) -> bool:
    """Make the database, if it is not there, and say whether it is; several processes may do so at once."""
    name = str(make_url(database_url).database)
    engine = _engine(database_url, "iscl-node", "postgres")
    known = text("SELECT 1 FROM pg_database WHERE datname = :name")
    deadline = time.monotonic() + _MAKING_SECONDS
    with suppress(SQLAlchemyError), engine.connect() as connection:
        while time.monotonic() < deadline:
            if connection.execute(known, {"name": name}).scalar() is not None:
                return True
            with suppress(SQLAlchemyError):  # another process makes it, and it is there in a moment
                connection.execute(text(f"CREATE DATABASE {engine.dialect.identifier_preparer.quote(name)}"))
            time.sleep(0.1)
    return False


def make_tables(connection: Connection) -> None:
    """Make the tables that are missing, one process after the other."""
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _TABLES_KEY})
    try:
        for statement in _TABLES:
            connection.execute(text(statement))
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _TABLES_KEY})


def try_lock(connection: Connection, key: int) -> bool:
    """Take a lock for as long as the session lasts; false if another one has it."""
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar())


def unlock(connection: Connection, key: int) -> None:
    """Give a lock back."""
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def held_keys(connection: Connection) -> dict[int, int]:
    """The keys of all locks that anybody holds in this database, with the server's process of each session."""
    found = connection.execute(
        text(
            f"SELECT {_LOCK_KEY}, pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )
    return {key: pid for key, pid in found}


def note_worker(connection: Connection, worker: Worker) -> None:
    """Write down who has a name now."""
    connection.execute(
        text(
            "INSERT INTO iscl_node.workers (name, key, role, version, host, pid) "
            "VALUES (:name, :key, :role, :version, :host, :pid) ON CONFLICT (name) "
            "DO UPDATE SET (key, role, version, host, pid, since) = (:key, :role, :version, :host, :pid, now())"
        ),
        {"key": worker_key(worker.name), **vars(worker)},
    )


def forget_worker(connection: Connection, name: str) -> None:
    """Remove a name that is free."""
    connection.execute(text("DELETE FROM iscl_node.workers WHERE name = :name"), {"name": name})


def noted_workers(connection: Connection) -> dict[str, Worker]:
    """Who had, or has, each name."""
    rows = connection.execute(text("SELECT name, role, version, host, pid FROM iscl_node.workers"))
    return {row.name: Worker(*row) for row in rows}


def living_workers(connection: Connection) -> list[Worker]:
    """Those of them that hold their names, sorted by name."""
    held = held_keys(connection)
    noted = noted_workers(connection)
    return [noted[name] for name in sorted(noted) if worker_key(name) in held]


def noted_spool(connection: Connection) -> str | None:
    """The ID of the spool that this database belongs to; None if it belongs to none yet."""
    found = connection.execute(text("SELECT id FROM iscl_node.spool")).scalar()
    return None if found is None else str(found)


def note_spool(connection: Connection, spool_id: str) -> None:
    """Have the database belong to a spool from now on."""
    connection.execute(
        text(
            "WITH gone AS (DELETE FROM iscl_node.spool WHERE id <> :id) INSERT INTO iscl_node.spool VALUES (:id) "
            "ON CONFLICT DO NOTHING"
        ),
        {"id": spool_id},
    )
