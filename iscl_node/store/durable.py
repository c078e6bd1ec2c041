"""What it takes that bytes, and the names they lie under, survive a power cut.

A file is durable when its content is synced *and* the folder that names it is synced (fsync(2): "Calling fsync() does
not necessarily ensure that the entry in the directory containing the file has also reached disk").
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from iscl_node.store.tree import refuse_links

PART_SUFFIX = ".part"
"""Of a file that is being written under a name of its own, before it gets its name."""


def write_synced(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, which is new, and sync its content; the name is durable only after `sync_folder`.

    Raises
    ------
    OSError
        The bytes are not safely on disk, and what was written is removed; or ``path`` was there, and stays as it was.
    """
    refuse_links(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def replace_synced(path: Path, data: bytes) -> None:
    """Give ``path`` the content ``data``, durably: after a crash it has what it had before, or all of this.

    Raises
    ------
    OSError
        The bytes are not safely on disk.
    """
    part = path.with_name(f"{uuid.uuid4().hex}{PART_SUFFIX}")
    write_synced(part, data)
    try:
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_synced(path: Path, lines: bytes) -> None:
    """Append whole lines to ``path`` as `append` does, and sync all that it has, and its name.

    Raises
    ------
    OSError
        The bytes are not safely on disk; a part may be there.
    """
    with _appended(path, lines) as descriptor:
        os.fsync(descriptor)
    sync_folder(path.parent)


def append(path: Path, lines: bytes) -> None:
    """Append whole lines to ``path`` in one write; a torn last line is ended before.

    They outlive this process, and a power cut only after `append_synced`, with the same lines or further ones.

    Raises
    ------
    OSError
        The file system refuses it; a part may be there.
    """
    with _appended(path, lines):
        pass


@contextlib.contextmanager
def _appended(path: Path, lines: bytes) -> Iterator[int]:
    refuse_links(path)
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        is_torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        _write_all(file.fileno(), b"\n" + lines if is_torn else lines)
        yield file.fileno()


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; a single write(2) may take only a part of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_entry(path: Path) -> None:
    """Make the name ``path`` durable.

    The folder is opened before it is looked into: a folder of the same name that came in between is not mistaken for
    the one that holds the file.

    Raises
    ------
    FileNotFoundError
        The folder, or the file in it, is not there (any more).
    """
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.stat(path.name, dir_fd=descriptor)  # pathlib cannot look into an open folder
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make ``folder``, with ``mode``, and its missing parents, each synced into its own parent.

    Raises
    ------
    OSError
        It cannot be made, or a part of its path is a link.
    """
    refuse_links(folder)
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode, exist_ok=True)
    sync_folder(folder.parent)


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder in one step and sync both parents, the new one first.

    A rename is atomic (rename(2)): after a crash the folder has the old name or the new one, never none. Another
    thread may remove an empty ``target.parent`` between its making and the rename; then both are done again.

    Raises
    ------
    FileNotFoundError
        There is no ``source``.
    OSError
        Among others: a part of a path is a link.
    """
    refuse_links(source)
    while True:
        make_folder(target.parent)
        try:
            source.rename(target)
            break
        except FileNotFoundError:
            if not source.exists():
                raise
    sync_folder(target.parent)
    with contextlib.suppress(FileNotFoundError):
        sync_folder(source.parent)


def remove_if_empty(folder: Path) -> None:
    """Remove ``folder`` if nothing is in it; leave it in peace otherwise."""
    with contextlib.suppress(OSError):
        folder.rmdir()
