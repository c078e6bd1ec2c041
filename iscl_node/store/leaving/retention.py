"""What is ever deleted: delivered batches by age and for space, ignored ones by age, and what a person released.

Nothing else in the node deletes what was received. A batch vanishes in one step, never slice by slice: it is moved away
from its state, and then removed.
"""

import json
import math
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from iscl_node.domain import Batch, SeriesState, SetAsideBatch
from iscl_node.store import tree
from iscl_node.store.batches.recovery import remove_outbox
from iscl_node.store.durable import append_synced, move_folder, remove_if_empty
from iscl_node.store.inventory import ENDED_STATES, known_batches
from iscl_node.store.known_folders import KnownFolders
from iscl_node.store.layout import Layout
from iscl_node.store.log_key import log_name

RELEASES_FILE = "releases.jsonl"
"""Who released what from quarantine, one JSON object a line, in the root of the spool; nothing removes it."""

_AT_A_TIME = 20
"""So that the deleting of very many batches leaves time for everything else."""

_DOOMED = ".purged"


@dataclass(frozen=True)
class RetentionLimits:
    """How long, and in how much space, delivered batches are kept.

    ``seconds`` counts from their end. ``max_bytes`` is for the whole spool, 0 for no limit; ``free_bytes`` is the free
    space below which delivered batches go.
    """

    seconds: float
    max_bytes: int = 0
    free_bytes: int = 0


class Retention:
    """Deletes what need not be kept.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    limits : RetentionLimits
        When.
    known : KnownFolders, optional
        What others looked at before.
    """

    def __init__(self, root: Path, limits: RetentionLimits, known: KnownFolders | None = None) -> None:
        self._layout = Layout(root)
        self._known = known or KnownFolders()
        self._limits = limits

    def purge_old(self, now: float) -> int:
        """Delete batches that were released or ignored longer ago than the limit, and say how many.

        At most 20, so call it again; ``now`` is in seconds since the epoch.
        """
        _remove_leftovers(self._layout)
        last = now - self._limits.seconds
        old = sorted(each for state in ENDED_STATES for each in self._batches(state, last))
        return sum(self._delete(folder) is not None for _, folder in old[:_AT_A_TIME])

    def make_room(self, spool_bytes: int = 0, promised_bytes: int = 0) -> int:
        """Delete delivered batches, oldest first, until there is enough space, and say how many.

        Nothing else is deleted, however full the disk is. At most 20, so call it again.

        Parameters
        ----------
        spool_bytes : int
            How much the spool holds, if that is known.
        promised_bytes : int
            How much what is accepted still needs. It is free space that nothing is received into, so without it a disk
            that is full of delivered batches takes in no large series.
        """
        lacking = self._limits.free_bytes + promised_bytes - shutil.disk_usage(self._layout.root).free
        if self._limits.max_bytes:
            lacking = max(lacking, spool_bytes - self._limits.max_bytes)
        deleted = 0
        if lacking > 0:
            for _, folder in sorted(self._batches(SeriesState.DONE))[:_AT_A_TIME]:
                size = self._delete(folder)
                deleted += size is not None
                lacking -= size or 0
                if lacking <= 0:
                    break
        return deleted

    def _batches(self, state: SeriesState, last: float = math.inf) -> Iterator[tuple[float, Path]]:
        """When each that did not change after a time changed last, and where it is."""
        found = known_batches(self._layout, state, self._known)
        return ((changed, self._layout.batch(state, batch)) for batch, changed in found if changed <= last)

    def _delete(self, folder: Path) -> int | None:
        """Delete a batch, and say how many bytes it had; None for one that is no longer there."""
        with suppress(FileNotFoundError):
            batch = Batch(folder.parent.name, folder.name)
            size = sum(size for each in (folder, *tree.walk(self._layout.outbox(batch))) for size in tree.sizes(each))
            _delete(self._layout, folder)
            remove_outbox(self._layout, batch)
            return size
        return None


class Sizes:
    """How many bytes lie where; a folder in which nothing changed is not looked through again.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    known : KnownFolders, optional
        What others looked at before.
    """

    def __init__(self, root: Path, known: KnownFolders | None = None) -> None:
        self._layout = Layout(root)
        self._known = known or KnownFolders()

    def by_folder(self) -> dict[str, int]:
        """Bytes of files by the name of a folder in the root of the spool."""
        return {top.name: self._known.look(top).all_bytes for top in self._layout.folders()}


def discard(root: Path, batches: Iterable[SetAsideBatch], user: str, now: datetime) -> int:
    """Delete batches in quarantine for good, as a person decided, and say how many.

    Each is recorded durably before it goes; a second record follows if it was not there any more. The record has no
    UID but what the log has for it, so that it can be kept for ever.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    batches : iterable of SetAsideBatch
        In quarantine.
    user : str
        Who decided.
    now : datetime
        For the record.

    Raises
    ------
    ValueError
        A batch is not in quarantine.
    OSError
        It cannot be recorded or moved; then it is still there.
    """
    layout = Layout(root)
    deleted = 0
    for each in batches:
        if each.folder.parent.parent != layout.state(SeriesState.QUARANTINE):
            raise ValueError("only what is in quarantine can be released")
        entry = _release(root, each, user, now)
        _record(layout, entry)
        try:
            _delete(layout, each.folder)
            deleted += 1
        except FileNotFoundError:
            _record(layout, entry | {"event": "not released, it was gone"})
    return deleted


def _release(root: Path, batch: SetAsideBatch, user: str, now: datetime) -> dict[str, object]:
    return {
        "time": now.isoformat(timespec="seconds"),
        "event": "released",
        "user": user,
        "batch": batch.batch.key,
        "series": log_name(root, batch.batch.series_instance_uid),
        "files": batch.files,
        "bytes": batch.size_bytes,
    }


def _record(layout: Layout, entry: dict[str, object]) -> None:
    append_synced(layout.root / RELEASES_FILE, json.dumps(entry).encode() + b"\n")


def _delete(layout: Layout, folder: Path) -> None:
    doomed = layout.receiving / f"{uuid.uuid4().hex}{_DOOMED}"
    move_folder(folder, doomed)
    tree.remove(doomed)
    remove_if_empty(folder.parent)


def _remove_leftovers(layout: Layout) -> None:
    """Remove what could not be removed when it was deleted, or was left by a kill."""
    for name in tree.names(layout.receiving, _DOOMED):
        tree.remove(layout.receiving / name)
