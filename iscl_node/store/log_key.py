"""The secret key with which the log hashes UIDs: one file in the spool, made once, readable for the node only."""

import contextlib
import os
import uuid
from pathlib import Path

from iscl_node.domain import SeriesState
from iscl_node.logs import hashed
from iscl_node.store import tree
from iscl_node.store.durable import sync_folder
from iscl_node.store.layout import Layout

KEY_FILE = "log.key"
_KEY_BYTES = 32


def made_log_key(root: Path) -> bytes:
    """The key of the spool in ``root``; it is made if there is none.

    Raises
    ------
    OSError
        It cannot be read or made.
    """
    if not (root / KEY_FILE).exists():
        _make(root)
    return (root / KEY_FILE).read_bytes()


def known_log_key(root: Path) -> bytes | None:
    """The key of the spool in ``root``; None if there is none or it may not be read."""
    try:
        return (root / KEY_FILE).read_bytes()
    except OSError:
        return None


def log_name(root: Path, uid: str) -> str:
    """What stands for a UID in the log of the node whose spool is in ``root``."""
    key = known_log_key(root)
    return "unknown" if key is None else hashed(key, uid)


def places_of_uids(root: Path) -> dict[str, str]:
    """Where each series and each instance of the spool lies, by UID; of several places, one."""
    places: dict[str, str] = {}
    layout = Layout(root)
    for state in SeriesState:
        for series in tree.folders(layout.state(state)):
            for folder in tree.walk(series):
                place = str(folder.relative_to(layout.root))
                places |= {path.stem: place for path in tree.files(folder, ".dcm")}
                places[series.name] = place
    return places


def _make(root: Path) -> None:
    """Write a key under another name and then give it its own, unless another process was faster."""
    part = root / f"{uuid.uuid4().hex}.{KEY_FILE}"
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - mode
            file.write(os.urandom(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            (root / KEY_FILE).hardlink_to(part)
        sync_folder(root)
    finally:
        part.unlink(missing_ok=True)
