"""The clock of a running program is set, forward or back, when a signal tells it to.

Python's clocks are moved, and with them the times of changes that the file system gives: what was changed before a jump
keeps its time, what is changed behind it has the new one. ``time.monotonic`` goes on, as it does when a real clock is
set. What SQLite takes for now is not moved: the workflow engine's notes of when a row was changed.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path

import time_machine


class MovedClock:
    """The clock of this process; `signal.SIGRTMIN` adds an amount to it.

    Parameters
    ----------
    amount : Path
        A file that says how many seconds.
    root : Path
        Below it, files and folders have times of the moved clock.
    """

    def __init__(self, amount: Path, root: Path) -> None:
        self._amount = amount
        self._root = str(root)
        self._traveller = time_machine.travel(time.time()).start()
        self._jumps: list[tuple[float, float]] = []
        self._stat = os.stat
        os.stat = self._moved_stat  # type: ignore[assignment]
        os.lstat = partial(self._moved_stat, follow_symlinks=False)
        signal.signal(signal.SIGRTMIN, lambda *_: self._jump())

    def _jump(self) -> None:
        seconds = float(self._amount.read_text())
        self._jumps.append((time_machine.escape_hatch.time.time(), seconds))
        self._traveller.shift(seconds)
        self._amount.unlink()

    def _moved_stat(self, path: int | str | os.PathLike[str], **options: object) -> os.stat_result:
        real = self._stat(path, **options)  # type: ignore[arg-type]
        if isinstance(path, int) or not os.fspath(path).startswith(self._root):
            return real
        moved = sum(seconds for when, seconds in self._jumps if when < real.st_mtime)
        times = {"st_mtime": real.st_mtime + moved, "st_mtime_ns": real.st_mtime_ns + int(moved * 1e9)}
        return os.stat_result(tuple(real), times)
