"""Folders as they were when they were looked at last: one in which nothing changed is not listed again.

What is kept of ten thousand delivered batches is so looked through at the price of one lstat(2) for each folder.
"""

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from iscl_node.store import tree

_SETTLED_SECONDS: Final = 10
"""What changes twice within the grain of a file system's times, or while clocks differ, is seen nevertheless: a folder
that changed so short a while ago is listed again."""


class Folder:
    """What is known of a folder: when it changed, what lies in it, and how much of it is no folder.

    ``changed`` is in seconds since the epoch, ``bytes`` those of the regular files in it.
    """

    __slots__ = ("bytes", "changed_ns", "folders", "others")

    def __init__(self) -> None:
        self.changed_ns = -1
        self.bytes = 0
        self.others = 0
        self.folders: dict[str, Folder] = {}

    @property
    def changed(self) -> float:
        """When a name in it changed last."""
        return self.changed_ns / 1e9

    @property
    def all_bytes(self) -> int:
        """Those of the folders below it, too."""
        return self.bytes + sum(each.all_bytes for each in self.folders.values())


class KnownFolders:
    """Looks through folders; safe to be used by several threads.

    Parameters
    ----------
    now : callable
        Seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._tops: dict[Path, Folder] = {}
        self._lock = threading.Lock()

    def look(self, top: Path) -> Folder:
        """What lies in a folder now, and below it; nothing if it is gone or a link."""
        with self._lock:
            known = self._tops.setdefault(top, Folder()) if tree.is_real(top) else Folder()
            if not self._is_there(str(top), known):
                self._tops[top] = Folder()
            return self._tops[top]

    def _is_there(self, path: str, known: Folder) -> bool:
        """Bring up to date what is known of a folder."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode):
            return False
        if status.st_mtime_ns != known.changed_ns or abs(self._now() - known.changed) < _SETTLED_SECONDS:
            self._list(path, known)
            known.changed_ns = status.st_mtime_ns  # as it was before it was listed
        gone = [name for name, folder in known.folders.items() if not self._is_there(f"{path}/{name}", folder)]
        for name in gone:
            del known.folders[name]
        return True

    @staticmethod
    def _list(path: str, known: Folder) -> None:
        names, known.others, known.bytes = tree.contents(Path(path))
        known.folders = {name: known.folders.get(name) or Folder() for name in names}
