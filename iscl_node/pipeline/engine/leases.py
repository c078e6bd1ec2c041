"""The lease of a worker: proof for the others that it lives, and for itself that its work was not taken over.

A node with SQLite is alone, and needs none (`NO_LEASE`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.pipeline.engine.database_faults import reason
from iscl_node.pipeline.engine.workers import (
    LEADER_KEY,
    SILENT_SECONDS,
    Worker,
    held_keys,
    living_workers,
    make_tables,
    note_spool,
    note_worker,
    noted_spool,
    noted_workers,
    session,
    try_lock,
    unlock,
    worker_key,
)

_log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 1.0
FRESH_SECONDS: Final = SILENT_SECONDS * 2 / 3
"""After so long without an answer of the server the lease is in doubt: well before it may be another's."""
_LONGEST_WAIT_SECONDS = 10
"""How long a start waits for a process of the same name that is just ending."""
_GIVE_UP_SECONDS = 30
"""How long a worker whose name another process has goes on hoping."""


class NoLease:
    """Of a node that is alone."""

    generation = 1

    @property
    def is_fresh(self) -> bool:
        """Whether the name is certainly this worker's."""
        return True

    @property
    def leads(self) -> bool:
        """Whether this worker does what only one may do."""
        return True

    @property
    def is_lost(self) -> bool:
        """Whether another process has the name and does not give it back."""
        return False

    def spool_id(self) -> str | None:
        """The ID of the spool that the database belongs to; None if it belongs to none yet."""
        return None

    def belong_to(self, _spool_id: str) -> None:
        """Have the database belong to a spool."""

    def tell_loss(self, _lost: Callable[[], object]) -> None:
        """Have it called when the lease is lost for good."""

    def stop(self) -> None:
        """Nothing."""


NO_LEASE: Final = NoLease()


def taken_lease(database_url: str, worker: Worker) -> NoLease:
    """The lease of a worker, which is kept from now on.

    Raises
    ------
    ConfigurationError
        Another process has the name, or the database cannot be used.
    """
    if not database_url.startswith("postgresql:"):
        return NO_LEASE
    lease = Lease(database_url, worker)
    lease.acquire()
    return lease


class Lease(NoLease):
    """Held from `acquire` to `stop`; a thread keeps it, and takes it again when its connection was lost.

    One of all workers leads: it does what only one may do. That ends with its connection.

    Parameters
    ----------
    database_url : str
        ``postgresql://...``.
    worker : Worker
        Who holds it.
    """

    generation = 0
    """How often it was taken: work started under an earlier one may be another's by now."""

    def __init__(self, database_url: str, worker: Worker) -> None:
        self._database_url = database_url
        self._worker = worker
        self._connection: Connection | None = None
        self._in_use = threading.Lock()
        self._beaten = -FRESH_SECONDS
        self._is_leading = False
        self._lost_since: float | None = None
        self._lost: Callable[[], object] = str
        self._is_lost = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def is_fresh(self) -> bool:
        """Whether the name is certainly this worker's."""
        return _now() - self._beaten < FRESH_SECONDS

    @property
    def leads(self) -> bool:
        """Whether this worker does what only one may do."""
        return self._is_leading and self.is_fresh

    @property
    def is_lost(self) -> bool:
        """Whether another process has the name and does not give it back."""
        return self._is_lost

    @property
    def worker(self) -> Worker:
        """Who holds it."""
        return self._worker

    def acquire(self) -> None:
        """Take it for the first time, and keep it from then on.

        Raises
        ------
        ConfigurationError
            Another process has the name, or the database cannot be used.
        """
        try:
            with self._in_use:
                self._take(_LONGEST_WAIT_SECONDS)
        except ConfigurationError:
            self._drop()
            raise
        except SQLAlchemyError as error:
            self._drop()
            told = reason(error, self._database_url)
            raise ConfigurationError(f"the workflow database cannot be used, see database_url: {told}") from error
        self._thread.start()

    def spool_id(self) -> str | None:
        """The ID of the spool that the database belongs to; None if it belongs to none yet."""
        with self.connection() as connection:
            return noted_spool(connection)

    def belong_to(self, spool_id: str) -> None:
        """Have the database belong to a spool."""
        with self.connection() as connection:
            note_spool(connection, spool_id)

    def tell_loss(self, lost: Callable[[], object]) -> None:
        """Have it called when the lease is lost for good."""
        self._lost = lost

    def stop(self) -> None:
        """Give it back: what this worker did not finish, others go on with."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._in_use:
            self._drop()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The session that holds the lease, for a statement or a few.

        Raises
        ------
        RetryLaterError
            The lease is lost, or the database refuses.
        """
        with self._in_use:
            if self._connection is None:
                raise RetryLaterError("the lease of this worker is lost")
            try:
                yield self._connection
            except SQLAlchemyError as error:
                self._lose(error)
                raise RetryLaterError(f"the workflow database refuses: {type(error).__name__}") from error

    def _keep(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            with self._in_use:
                try:
                    self._beat()
                except (SQLAlchemyError, ConfigurationError) as error:
                    self._lose(error)
            if self._lost_since is not None and _now() - self._lost_since > _GIVE_UP_SECONDS:
                self._is_lost = True
                self._lost()
                return

    def _beat(self) -> None:
        if self._connection is None:
            self._take(0)
            _log.warning("lease.taken_again", worker=self._worker.name)
        began = _now()
        assert self._connection is not None
        self._connection.execute(text("SELECT 1"))
        if not self._is_leading and try_lock(self._connection, LEADER_KEY):
            self._is_leading = True
            _log.info("worker.elected", worker=self._worker.name)
        self._beaten, self._lost_since = began, None

    def _take(self, longest_seconds: float) -> None:
        began = _now()
        self._connection = session(self._database_url, f"iscl-node lease {self._worker.name}")
        make_tables(self._connection)
        while not try_lock(self._connection, worker_key(self._worker.name)):
            if _now() - began >= longest_seconds:
                raise ConfigurationError(self._refusal(self._connection))
            time.sleep(0.2)
        self._check_versions(self._connection)
        note_worker(self._connection, self._worker)
        self.generation += 1
        self._beaten = began

    def _check_versions(self, connection: Connection) -> None:
        """Two versions on one spool would each begin the workflows of the other anew."""
        for other in living_workers(connection):
            if other.name != self._worker.name and other.version != self._worker.version:
                raise ConfigurationError(
                    f"worker {other.name!r} ({other}) is of another version of this program: stop all, then start all"
                )

    def _refusal(self, connection: Connection) -> str:
        self._lost_since = self._lost_since or _now()
        holder = noted_workers(connection).get(self._worker.name, "another process")
        return f"worker_name {self._worker.name!r} is in use by {holder}; give this node another one"

    def _lose(self, error: Exception) -> None:
        if self._connection is not None and isinstance(error, SQLAlchemyError):
            _log.warning("lease.lost", worker=self._worker.name, fault=type(error).__name__)
        self._drop()

    def _drop(self) -> None:
        """End the session: one that was lost must not be made anew unseen, without its locks."""
        connection, self._connection = self._connection, None
        self._is_leading = False
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.invalidate()
                connection.close()


@contextmanager
def in_place_of(lease: Lease, name: str) -> Iterator[bool]:
    """Hold the name of another worker for the length of a ``with`` block; False if another process holds it.

    Raises
    ------
    RetryLaterError
        The lease is lost, or the database refuses.
    """
    key = worker_key(name)
    with lease.connection() as connection:
        is_ours = try_lock(connection, key)
    try:
        yield is_ours
    finally:
        if is_ours:
            with lease.connection() as connection:
                unlock(connection, key)


def free_names(lease: Lease, claimants: set[str]) -> set[str]:
    """The free names, among some names and those of all workers ever noted.

    Raises
    ------
    RetryLaterError
        The lease is lost, or the database refuses.
    """
    with lease.connection() as connection:
        held = held_keys(connection)
        names = claimants | set(noted_workers(connection))
        return {name for name in names if worker_key(name) not in held}


def _now() -> float:
    """Seconds that go on while the machine sleeps, in which a session ends, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
