"""Polls of the engine that look into a SQLite database only when something in it changed.

The engine asks for each queue twice a second for its limits and for what waits in it, in Python and through SQLAlchemy:
two hundredths of a core, of a node that has nothing to do. For a hundredth of that price SQLite says whether anything
was written since the last look.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dbos import Queue
from dbos._dbos import _get_dbos_instance
from dbos._sys_db import SystemDatabase
from sqlalchemy import event

_LOOK_SECONDS: Final = 5.0
"""After so long a queue is looked into though nothing seems to have changed."""


class Changes:
    """Says whether anything was written into a SQLite file, by whomever; safe to be used by several threads.

    Parameters
    ----------
    path : Path
        The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._times_opened = 0
        self._faults = 0

    def note_fault(self, _context: object = None) -> None:
        """The engine met with a fault of the database, so what it looked for may be there."""
        self._faults += 1

    def version(self) -> tuple[int, int, int] | None:
        """Other numbers than before if something was written, or could not be; None if SQLite does not say."""
        with self._lock:
            try:
                if self._opened is None:
                    self._opened = sqlite3.connect(
                        f"{self._path.absolute().as_uri()}?mode=rw", 0, uri=True, check_same_thread=False
                    )
                    self._times_opened += 1
                (version,) = self._opened.execute("PRAGMA data_version").fetchone()
                return self._faults, self._times_opened, int(version)  # each connection counts anew
            except sqlite3.Error:
                self._close()
                return None

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._opened is not None:
            with suppress(sqlite3.Error):
                self._opened.close()
        self._opened = None


class _Look:
    """Whether it is time for a look: something changed since the last one, or that was long ago."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._seen: tuple[int, int, int] | None = None
        self._next = 0.0
        self._was_busy = True

    def is_due(self, is_busy: Callable[[], bool] = lambda: False) -> bool:
        """Ask at each poll; what is busy, or was at the last poll, may have changed where nothing is written."""
        version, now = self._changes.version(), time.monotonic()
        is_as_before = version is not None and version == self._seen and now < self._next
        # After the version: what ends is written first, and counts as busy for a moment longer.
        was_busy, self._was_busy = self._was_busy, is_busy()
        if is_as_before and not self._was_busy and not was_busy:
            return False
        self._seen, self._next = version, now + _LOOK_SECONDS
        return True


class QuietPolls:
    """Stands between the engine's threads and its database.

    Parameters
    ----------
    changes : Changes
        Of the database.
    database : SystemDatabase
        Of the engine that is launched.
    running : callable
        How many workflows of a queue run in this process.
    """

    def __init__(self, changes: Changes, database: SystemDatabase, running: Callable[[str], int]) -> None:
        self._changes = changes
        self._running = running
        self._read_queue, self._scopes, self._destroy = database.get_queue, database.dequeue_scopes, database.destroy
        self._looks: dict[str, _Look] = {}
        self._limits: dict[str, tuple[_Look, Queue | None]] = {}

    def get_queue(self, name: str, **options: Any) -> Queue | None:
        """A queue and its limits."""
        if options:
            return self._read_queue(name, **options)
        look, queue = self._limits.get(name, (_Look(self._changes), None))
        if look.is_due():
            queue = self._read_queue(name)
        self._limits[name] = look, queue
        return queue

    def dequeue_scopes(self, queue_name: str) -> list[str | None]:
        """Where the engine looks for work in a queue; nowhere if nothing changed."""
        look = self._looks.setdefault(queue_name, _Look(self._changes))
        return self._scopes(queue_name) if look.is_due(lambda: self._running(queue_name) > 0) else []

    def destroy(self) -> None:
        """The engine ends."""
        self._changes.close()
        self._destroy()


def poll_what_changed(path: Path) -> None:
    """Have the engine, once it is launched, look into its queues only when something in its SQLite file changed."""
    engine = _get_dbos_instance()
    database = engine._sys_db
    changes = Changes(path)
    event.listen(database.engine, "handle_error", changes.note_fault)
    polls = QuietPolls(changes, database, engine._active_workflows_set.count_for_queue)
    database.get_queue = polls.get_queue  # type: ignore[method-assign]  # no other way in
    database.dequeue_scopes = polls.dequeue_scopes  # type: ignore[method-assign]
    database.destroy = polls.destroy  # type: ignore[method-assign]
