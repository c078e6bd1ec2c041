"""Which spool this is: a random ID in it, and the same ID kept outside of it, so that an unmounted disk is noticed.

A folder that is empty because its disk is not mounted looks like a first start. A node that knew a spool here does
not start with another one.
"""

import errno
import json
import os
import pwd
import stat
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from iscl_node.domain import SeriesState
from iscl_node.errors import ConfigurationError
from iscl_node.store.durable import PART_SUFFIX, make_folder, replace_synced, sync_folder, write_synced
from iscl_node.store.tree import names, read_bytes

IDENTITY_FILE = "spool.json"
_SPOOL_MODE = 0o700
_NOT_OURS = stat.S_IWGRP | stat.S_IRWXO
"""What only the owner may do with a spool: its group may read, others nothing."""
_WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What link(2) says on exFAT and on some network file systems."""
_OF_A_SPOOL = {SeriesState.OPEN.value, SeriesState.CLOSED.value}
_OF_A_NEW_DISK = {"lost+found"}

_log = structlog.get_logger(__name__)


def settle_identity(root: Path, memory: Path, version: str, expected: str | None = None) -> str:
    """Make a spool, or recognize it, and return its ID.

    Parameters
    ----------
    root : Path
        The folder of the spool; an empty one, or none, is a first start.
    memory : Path
        A file outside of the spool that keeps the ID, or will.
    version : str
        Of the program, for a new spool.
    expected : str, optional
        The ID that the workflow database names, which counts more than that of the file.

    Raises
    ------
    ConfigurationError
        It is not the spool that was here before, or is none; or others may write or read it and that cannot be changed.
    """
    known, found = expected or _known(memory), spool_id(root)
    if known and known != found:
        where = "the workflow database" if expected else memory
        raise ConfigurationError(
            f"spool_dir {root} is not the spool that was used before: is its disk mounted? {_described(found)}, and "
            f"{where} names {known}; `iscl-node init` starts with a new or another spool"
        )
    return adopt(root, memory, version)


def adopt(root: Path, memory: Path, version: str) -> str:
    """Do the same with any spool that is there, or a new one, and remember it from now on.

    Raises
    ------
    ConfigurationError
        What is there is no spool, or cannot be used.
    """
    found = spool_id(root)
    if found is None and not _is_first_start(root) and not set(names(root.resolve())) >= _OF_A_SPOOL:
        found = spool_id(root)  # another node may have made it in between
        if found is None:
            raise ConfigurationError(f"spool_dir {root} is neither a spool nor empty; name another folder")
    try:
        make_folder(root.resolve(), _SPOOL_MODE)
        _correct_mode(root)
        if found is None:
            found = _made(root.resolve(), version)
    except OSError as error:
        raise ConfigurationError(f"spool_dir {root} cannot be used: {error.strerror}") from error
    _remember(memory, found)
    return found


def spool_id(root: Path) -> str | None:
    """The ID of the spool in ``root``; None if there is none.

    Raises
    ------
    ConfigurationError
        Its file is there and cannot be read.
    """
    path = root.resolve() / IDENTITY_FILE
    try:
        return str(json.loads(read_bytes(path))["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__}); it names the spool") from error


def _is_first_start(root: Path) -> bool:
    found = {name for name in names(root.resolve()) if not name.endswith(PART_SUFFIX)}
    return found <= _OF_A_NEW_DISK


def _made(root: Path, version: str) -> str:
    made = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"id": str(uuid.uuid4()), "made": made, "version": version}
    part = root / f"{uuid.uuid4().hex}{PART_SUFFIX}"
    try:
        write_synced(part, json.dumps(entry).encode() + b"\n")
        with suppress(FileExistsError):  # another process was faster
            _link(part, root / IDENTITY_FILE)
        sync_folder(root)
    finally:
        part.unlink(missing_ok=True)
    return str(spool_id(root))


def _link(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno in _WITHOUT_LINKS:
            raise ConfigurationError(
                f"spool_dir {path.parent} is on a file system without hard links ({error.strerror}); instances are "
                "received by them: name a folder on another one"
            ) from error
        raise


def _correct_mode(root: Path) -> None:
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & _NOT_OURS:
        try:
            root.chmod(mode & ~_NOT_OURS)
        except OSError as error:
            raise ConfigurationError(
                f"spool_dir {root} has mode {mode:04o}: others may use it, and the node may not change that, as it "
                f"belongs to user {owner_name(root)}; name a folder below it in spool_dir, which the node makes for "
                f"itself, or have its owner do: chmod {mode & ~_NOT_OURS:04o} {root}"
            ) from error
        _log.warning("spool.mode_corrected", before=f"{mode:04o}", after=f"{mode & ~_NOT_OURS:04o}")


def owner_name(place: Path) -> str:
    """Who owns a place, as sudo takes it."""
    user = place.stat().st_uid
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"#{user}"


def _known(memory: Path) -> str | None:
    try:
        return memory.read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{memory} cannot be read ({type(error).__name__}); it names the spool") from error


def _remember(memory: Path, identity: str) -> None:
    """Keep the ID; where that fails, an unmounted disk will not be noticed, and the node works all the same."""
    try:
        if _known(memory) != identity:
            replace_synced(memory.resolve(), f"{identity}\n".encode())
    except (OSError, ConfigurationError):
        _log.warning("spool.identity_not_kept", file=str(memory), reason="set STATE_DIRECTORY to a folder to write to")


def _described(found: str | None) -> str:
    return "it has no spool.json" if found is None else f"its spool.json names {found}"
