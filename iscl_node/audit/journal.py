"""Where audit messages wait, on disk and in order, until the syslog server has them.

::

    <16 digits>.log     messages, one a line (a line is what syslog carries); the files are numbered in their order
    sent                number of a file, and how many bytes of it the server has
    lock                held by the process that appends: the node, or a command

A message is synced before it counts as recorded. The files never hold more than a limit: a message beyond it is
refused, so that what was recorded first is kept.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EDQUOT
from itertools import islice
from pathlib import Path

_FILE_BYTES = 1 << 20
"""When a file has more, the next message begins another one; one that was sent is removed."""
_SUFFIX = ".log"
_POSITION = "sent"
_LOCK = "lock"


@dataclass(frozen=True, order=True)
class Position:
    """A place between two messages: the number of a file, and an offset in it."""

    file: int = 0
    offset: int = 0


class Journal:
    """The messages that wait, in a folder.

    Parameters
    ----------
    folder : Path
        Is made when it is needed.
    max_bytes : int
        Of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def append(self, line: bytes) -> None:
        """Add a message, without a line's end, durably.

        Raises
        ------
        OSError
            It is not there; EDQUOT where the limit is reached.
        """
        with self._locked():
            path = self._last_file()
            if self._size() + len(line) + 1 > self._max_bytes:
                raise OSError(EDQUOT, os.strerror(EDQUOT))
            append_line(path, line)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One appends at a time, of all threads and processes; the lock ends with who holds it (flock(2))."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._folder.parent)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _last_file(self) -> Path:
        number = max(self._numbers(), default=self.position().file + 1)
        return self._path(number if self._size_of(number) < _FILE_BYTES else number + 1)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016}{_SUFFIX}"

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob(f"{'[0-9]' * 16}{_SUFFIX}"))

    def _size(self) -> int:
        return sum(map(self._size_of, self._numbers()))

    def _size_of(self, number: int) -> int:
        try:
            return self._path(number).stat().st_size
        except FileNotFoundError:  # it was sent and removed
            return 0

    def position(self) -> Position:
        """What the server has; the start where nothing is known, or what is known cannot be read."""
        try:
            file, offset = (self._folder / _POSITION).read_text().split()
            return Position(int(file), int(offset))
        except (OSError, ValueError):
            return Position()

    def messages(self, start: Position, at_most: int) -> list[tuple[Position, bytes]]:
        """The next messages behind a position, each with the position behind it.

        Raises
        ------
        OSError
            They cannot be read.
        """
        with self._locked():
            return list(islice(self._behind(start), at_most))

    def _behind(self, start: Position) -> Iterator[tuple[Position, bytes]]:
        for number in self._numbers():
            if number < start.file:
                continue
            offset = start.offset if number == start.file else 0
            with self._path(number).open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):  # left by a kill in the middle of writing it
                        break
                    offset += len(line)
                    yield Position(number, offset), line[:-1]

    def bytes_behind(self, start: Position) -> int:
        """How many bytes are behind a position."""
        size = sum(self._size_of(number) for number in self._numbers() if number >= start.file)
        return max(0, size - start.offset)

    def mark_sent(self, position: Position) -> None:
        """Remember durably that the server has all before this position, and remove files that hold nothing else.

        Raises
        ------
        OSError
            It is not remembered; after a restart, messages are sent again.
        """
        part = self._folder / f"{_POSITION}.part"
        with part.open("w") as file:
            file.write(f"{position.file} {position.offset}\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(self._folder / _POSITION)
        _sync_folder(self._folder)
        with self._locked():
            for number in self._numbers()[:-1]:  # the last one is appended to
                if number < position.file:
                    self._path(number).unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Append a line durably, to a file that only its owner may read; nothing of it is there if that fails.

    What a kill in the middle of a line left is cut off: it was never recorded. One appends at a time, of all threads
    and processes.

    Raises
    ------
    OSError
        The line is not there.
    """
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # or the line that another is writing would pass for what a kill left
        size = _end_of_lines(descriptor)
        os.ftruncate(descriptor, size)
        try:
            _write_at(descriptor, line + b"\n", size)
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if is_new:
        _sync_folder(path.parent)


def _end_of_lines(descriptor: int) -> int:
    """The offset behind the last line that is whole."""
    size = os.fstat(descriptor).st_size
    block = 1 << 16
    while size:
        start = max(0, size - block)
        found = os.pread(descriptor, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data``; a single write(2) may take only a part of it."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
