"""Lists, walks and removes what lies in the spool; nothing else in the store does.

A link in the spool is never followed: what it points to is not listed, not read and above all not removed. Paths are
below a root without links (`layout.Layout` resolves it), so a path that differs from its real one has a link in it.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def is_real(path: Path) -> bool:
    """Whether no part of a path is a link; a path that is not there is real."""
    return os.path.realpath(path) == str(path)


def refuse_links(path: Path) -> None:
    """Check that no part of a path is a link.

    Raises
    ------
    OSError
        One is (ELOOP).
    """
    if not is_real(path):
        raise OSError(errno.ELOOP, "a link in the spool is not followed")


def folders(folder: Path, *, is_listed: bool = False) -> list[Path]:
    """The folders in a folder, sorted; none if it is gone or a link.

    One that was just listed here is known to be no link, which saves a look at each part of its path.
    """
    entries = _entries(folder, is_listed)
    return sorted(folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def changes(folder: Path) -> Iterator[tuple[str, int]]:
    """The name of each folder in a folder, in no order, with the time of its last change in nanoseconds.

    Of ten thousand folders it takes a tenth of what `folders` and a look at each take.
    """
    for entry in _entries(folder):
        with suppress(FileNotFoundError):
            if entry.is_dir(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False).st_mtime_ns


def files(folder: Path, suffix: str = "") -> list[Path]:
    """The regular files in a folder whose names end so, sorted; none if it is gone or a link."""
    entries = (entry for entry in _entries(folder) if entry.name.endswith(suffix))
    return sorted(folder / entry.name for entry in entries if entry.is_file(follow_symlinks=False))


def names(folder: Path, suffix: str = "") -> list[str]:
    """The names in a folder that end so, of anything, sorted; none if it is gone or a link."""
    return sorted(entry.name for entry in _entries(folder) if entry.name.endswith(suffix))


def sizes(folder: Path) -> Iterator[int]:
    """The bytes of each regular file in a folder."""
    return _sizes(_entries(folder))


def _sizes(entries: list[os.DirEntry[str]]) -> Iterator[int]:
    for entry in entries:
        with suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False):
                yield entry.stat(follow_symlinks=False).st_size


def contents(folder: Path) -> tuple[list[str], int, int]:
    """Of a folder that was just looked at: its folders by name, how many other things lie in it, and the files' bytes.

    The files are the regular ones.
    """
    entries = _entries(folder, is_listed=True)
    names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return names, len(entries) - len(names), sum(_sizes(entries))


def walk(top: Path) -> Iterator[Path]:
    """A folder and all folders below it, the upper ones first; those that move away are left out."""
    if top.is_dir() and is_real(top):
        yield from _walk(top)


def _walk(top: Path) -> Iterator[Path]:
    yield top
    for folder in folders(top, is_listed=True):
        yield from _walk(folder)


def is_file(path: Path) -> bool:
    """Whether this is a regular file, reached without a link."""
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode) and is_real(path.parent)
    return False


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    Raises
    ------
    OSError
        It is not there, or is a link (ELOOP), a pipe or a folder.
    """
    # Without O_NONBLOCK the opening of a pipe waits for its writer.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - flags
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


def remove(path: Path) -> None:
    """Remove a file, a link itself, or a folder, as far as possible; leave alone what is reached by a link."""
    if not is_real(path.parent):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # it follows no link either
    else:
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder.

    Raises
    ------
    OSError
        The disk refuses it, and a part may be removed; or a part of the path is a link.
    """
    refuse_links(path)
    shutil.rmtree(path)


def _entries(folder: Path, is_listed: bool = False) -> list[os.DirEntry[str]]:
    """What lies in a folder; os.scandir, because of thousands of files Path.glob takes much longer."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if is_listed or is_real(folder):
            with os.scandir(folder) as entries:
                return list(entries)
    return []
