"""A SQLite workflow database that is damaged: it is renamed, and a new one is filled with what the spool asks for.

Nothing is lost with it: plans, derived objects and answers are in the spool; work that was going on is started again.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import make_url

_log = structlog.get_logger(__name__)

DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""Primary result codes, https://www.sqlite.org/rescode.html."""

_COMPANIONS = ("", "-journal", "-wal", "-shm")
"""Files of one database, by the end of their names."""


def set_aside_if_damaged(database_url: str) -> Path | None:
    """Look through the database file, and rename it if it is damaged; its new path, or None.

    A database of another kind, and one that cannot be opened for another reason, are left alone.

    Raises
    ------
    OSError
        It cannot be renamed.
    """
    path = sqlite_file(database_url)
    if path is None or not path.exists():
        return None
    fault = _fault(path)
    return set_aside(path, fault) if fault else None


def sqlite_file(database_url: str) -> Path | None:
    """Where the database is; None if it is no file."""
    if not database_url.startswith("sqlite:"):
        return None
    name = make_url(database_url).database
    return Path(name) if name and name != ":memory:" else None


def _fault(path: Path) -> str:
    """What SQLite finds wrong in a file; empty if nothing."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as opened:
            (finding,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return type(error).__name__ if is_damage(error) else ""
    return "" if finding == "ok" else "quick_check"


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says by an error that the file is damaged, or none of its own."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def set_aside(path: Path, fault: str) -> Path:
    """Rename a database and what belongs to it; nothing is deleted."""
    target = path.with_name(f"{path.stem}.damaged-{time.time():.0f}{path.suffix}")
    for companion in _COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(target.with_name(target.name + companion))
    _log.error("database.replaced", file=target.name, fault=fault)
    return target
