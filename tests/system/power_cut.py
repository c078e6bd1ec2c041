"""What a power cut leaves of a folder: what was synced, and nothing else.

The content of a file lasts when the file was synced, and a name when its folder was (fsync(2)). Everything else is
lost: a file that was not synced is empty, a new name is not there, a removed one is there again. One thing is taken
for granted, as ext4, XFS and Btrfs do it: a rename is one act, so that syncing either folder makes both of its sides
last.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

Inode = int

_rename = os.rename  # the real one: `killed_node` puts `Disk.rename` in its place


@dataclass(frozen=True)
class _Move:
    """A rename of which neither folder was synced yet."""

    moved: Inode
    source: tuple[Inode, str]
    target: tuple[Inode, str]


class Disk:
    """Keeps book of what would be left of a folder.

    Parameters
    ----------
    root : Path
        The folder; what is in it now lasts.
    lock : context manager
        Held while the book is written; it may be taken twice by one thread.
    ignored : str
        How the names in ``root`` begin that are not kept in the book.
    """

    def __init__(self, root: Path, lock: AbstractContextManager[object], ignored: str) -> None:
        self._root = root
        self._lock = lock
        self._ignored = ignored
        self._names: dict[Inode, dict[str, Inode]] = {}
        self._contents: dict[Inode, bytes] = {}
        self._moves: list[_Move] = []
        self._held: dict[Inode, int] = {}
        """Open descriptors, so that the number of an inode is not given to another file."""
        for folder, _, files in os.walk(root):
            for path in [Path(folder), *(Path(folder, file) for file in files if not file.startswith(ignored))]:
                descriptor = os.open(path, os.O_RDONLY)
                self.synced(descriptor)
                os.close(descriptor)

    def rename(self, source: os.PathLike[str], target: os.PathLike[str]) -> None:
        """Do what `os.rename` does."""
        with self._lock:
            before, after = _place_of(Path(source)), _place_of(Path(target))
            _rename(source, target)
            self._moves.append(_Move(Path(target).stat().st_ino, before, after))

    def synced(self, descriptor: int) -> None:
        """An open file, or folder, was synced."""
        with self._lock:
            inode = os.fstat(descriptor).st_ino
            self._hold(inode, f"/proc/self/fd/{descriptor}")
            if not self._is_folder(inode):
                self._contents[inode] = self._read(inode)
                return
            for move in [move for move in self._moves if inode in (move.source[0], move.target[0])]:
                self._moves.remove(move)
                self._complete(move)
            self._names[inode] = {
                entry.name: self._hold(entry.inode(), f"/proc/self/fd/{descriptor}/{entry.name}")
                for entry in os.scandir(f"/proc/self/fd/{descriptor}")
                if not entry.name.startswith(self._ignored)
            }

    def _complete(self, move: _Move) -> None:
        folder, name = move.source
        if self._names.get(folder, {}).get(name) == move.moved:
            del self._names[folder][name]
        folder, name = move.target
        self._names.setdefault(folder, {})[name] = move.moved

    def _hold(self, inode: Inode, path: str) -> Inode:
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_PATH)
        return inode

    def _is_folder(self, inode: Inode) -> bool:
        return S_ISDIR(os.fstat(self._held[inode]).st_mode)

    def _read(self, inode: Inode) -> bytes:
        return Path(f"/proc/self/fd/{self._held[inode]}").read_bytes()

    def write_what_is_left(self, target: Path) -> None:
        """Make a folder of what a power cut would leave now."""
        with self._lock:
            target.mkdir()
            if self._root.exists():
                self._write_folder(self._root.stat().st_ino, target)

    def _write_folder(self, folder: Inode, target: Path) -> None:
        for name, inode in self._names.get(folder, {}).items():
            path = target / name
            if self._is_folder(inode):
                path.mkdir()
                self._write_folder(inode, path)
            else:
                path.write_bytes(self._left_of(inode))

    def _left_of(self, inode: Inode) -> bytes:
        """The synced content; nothing of a file that was truncated since."""
        synced = self._contents.get(inode, b"")
        return synced if self._read(inode).startswith(synced) else b""


def _place_of(path: Path) -> tuple[Inode, str]:
    return path.parent.stat().st_ino, path.name
