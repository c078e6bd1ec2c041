"""The real program with a hook before every call by which it changes what lasts or tells somebody something.

These calls are its *points*: each opening for writing, write, sync, rename, new and removed name below the spool, each
commit that writes to the workflow database, and each PDU. A point is named after the functions that come to it, so
that the points need not be known beforehand: one run records them, further runs are killed at them.

What SQLite writes is written by its own code and cannot be seen; the commit that makes it do so can.
"""

import contextlib
import os
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from types import FrameType
from typing import Any

from moved_clock import MovedClock
from power_cut import Disk

PRELOADED = ("iscl_node.cli", "iscl_node.service", "pynetdicom.transport", "sqlalchemy.event")
"""What takes seconds to import, and starts no thread."""

DATABASE = "workflows.sqlite"
"""How the files of the workflow database begin."""

_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.link")
"""Audit events (PEP 578): they come before the call. Their last argument is the folder that a name is relative to."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FRAMES = 3
"""How many of the node's functions name a point."""

_PDUS = ("", "A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "A-ASSOCIATE-RJ", "", "A-RELEASE-RQ", "A-RELEASE-RP", "A-ABORT")
_P_DATA_TF = 4
_COMMAND_FIELD = bytes((0, 0, 0, 1, 2, 0, 0, 0))
"""Tag and length of (0000,0100) in Implicit VR Little Endian (PS3.7 6.3.1)."""


@dataclass(frozen=True, order=True)
class Passing:
    """The ``number``-th time, from 1, that a point is passed."""

    point: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.point} #{self.number}"


@dataclass(frozen=True)
class Jumps:
    """The clock is set by the seconds in ``amount`` at each SIGRTMIN, and the node cleans up twice a second."""

    amount: Path


@dataclass(frozen=True)
class Orders:
    """Where and how the node is killed.

    ``record`` gets a line for each point that is passed; at ``fatal`` the process is killed. If ``left`` is given, that
    is a power cut, and what it leaves of the spool is written there: of the workflow database nothing, because SQLite
    syncs it, or the state before its last commit, if ``undoes_commit``. ``unsynced`` names what a sync does not reach,
    'file' or 'folder', to see that a test notices it.
    """

    record: Path
    fatal: Passing | None = None
    left: Path | None = None
    unsynced: str = ""
    undoes_commit: bool = False


def run(config: Path, log: Path, spool: Path, disturbance: Orders | Jumps | None) -> None:
    """Be the program, and be disturbed."""
    import torch

    from iscl_node.cli import app
    from iscl_node.pipeline import housekeeping

    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    for name in [name for name in os.environ if name.startswith("ISCL_NODE_")]:
        del os.environ[name]
    torch.set_num_threads(1)
    if isinstance(disturbance, Orders):
        install(Points(disturbance, spool), f"{spool}/", disturbance.unsynced)
    if isinstance(disturbance, Jumps):
        housekeeping._CLEAN_UP_SECONDS = 0.5
        MovedClock(disturbance.amount, spool)
    app(["serve", "--config", str(config)])


class Points:
    """Counts what is passed, and ends the process where it was told to.

    Parameters
    ----------
    orders : Orders
        Where and how.
    spool : Path
        What a power cut strikes.
    """

    def __init__(self, orders: Orders, spool: Path) -> None:
        self._orders = orders
        self._record = os.open(orders.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write = os.write  # the real one
        self._counts: Counter[str] = Counter()
        self._lock = threading.RLock()
        self.disk = Disk(spool, self._lock, DATABASE)
        self._database = spool / DATABASE
        self._before_commit = b""

    def calls(self, call: str) -> None:
        """This call comes now; the point is named after the functions that come to it, too."""
        self.passes(f"{_place(sys._getframe(1))}: {call}")

    def passes(self, point: str) -> None:
        """This point comes now."""
        with self._lock:
            self._counts[point] += 1
            self._write(self._record, f"{point}\n".encode())
            if Passing(point, self._counts[point]) == self._orders.fatal:
                if self._orders.left:
                    self.disk.write_what_is_left(self._orders.left)
                    if self._orders.undoes_commit:
                        (self._orders.left / DATABASE).write_bytes(self._before_commit)
                os.kill(os.getpid(), signal.SIGKILL)

    def commits(self) -> None:
        """A commit that writes comes now."""
        self.calls("COMMIT")
        if self._orders.undoes_commit and self._database.stat().st_size:
            with contextlib.closing(sqlite3.connect(self._database)) as connection:
                self._before_commit = connection.serialize()


def _place(frame: FrameType | None) -> str:
    """The innermost functions of the node, outermost first; and of its workflow engine, if that acts for it."""
    functions: list[str] = []
    engine = ""
    for name, function in _functions(frame):
        if name.startswith("dbos.") and not functions and "wrapper" not in function:
            engine = engine or function
        elif name.startswith("iscl_node.") and function not in functions and len(functions) < _FRAMES:
            functions.append(function)
    return " > ".join([*reversed(functions), *([engine] if engine else [])])


def _functions(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    while frame is not None:
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.split(".<locals>")[0]
        frame = frame.f_back


def install(points: Points, spool: str, unsynced: str) -> None:
    """Put a hook before every call that matters; ``spool`` is how the paths begin that do."""
    _hook_names(points, spool)
    _hook_writes(points, spool)
    _hook_syncs(points, spool, unsynced)
    os.rename = os.replace = points.disk.rename  # type: ignore[assignment]
    _hook_commits(points)
    _hook_pdus(points)


def _hook_names(points: Points, spool: str) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & _WRITING and str(arguments[0]).startswith(spool):
            points.calls("open")
        elif event in _CHANGES and _is_below(spool, arguments[0], arguments[-1]):
            points.calls(event)

    sys.addaudithook(hook)


def _is_below(spool: str, path: Any, folder: int) -> bool:
    return (os.fspath(path) if folder == -1 else _path_of(folder) + "/").startswith(spool)


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _hook_writes(points: Points, spool: str) -> None:
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if _path_of(descriptor).startswith(spool):
            points.calls("os.write")
        return real(descriptor, data)

    os.write = write


def _hook_syncs(points: Points, spool: str, unsynced: str) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not f"{_path_of(descriptor)}/".startswith(spool):
            real(descriptor)
            return
        kind = "folder" if S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        points.calls(f"os.fsync of a {kind}")
        if kind != unsynced:
            points.disk.synced(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def _hook_commits(points: Points) -> None:
    from sqlalchemy import Connection, Engine, event

    def hook(connection: Connection) -> None:
        # sqlite3 begins a transaction before the first statement that writes, not before one that reads.
        if connection.connection.dbapi_connection.in_transaction:
            points.commits()

    event.listen(Engine, "commit", hook)


def _hook_pdus(points: Points) -> None:
    from pynetdicom.transport import AssociationSocket

    real = AssociationSocket.send

    def send(self: AssociationSocket, pdu: bytes) -> None:
        points.passes(f"{_name_of(pdu)} to {'a destination' if self.assoc.is_requestor else 'the sender'}")
        real(self, pdu)

    AssociationSocket.send = send  # type: ignore[method-assign]


def _name_of(pdu: bytes) -> str:
    """The PDU's type (PS3.8 9.3), and of a DIMSE command the Command Field (PS3.7 E.1)."""
    if pdu[0] != _P_DATA_TF:
        return _PDUS[pdu[0]]
    is_command = pdu[11] & 1  # Message Control Header (PS3.8 E.2)
    if not is_command:
        return "data set"
    at = pdu.index(_COMMAND_FIELD) + len(_COMMAND_FIELD)
    return f"command {int.from_bytes(pdu[at : at + 2], 'little'):04X}"
