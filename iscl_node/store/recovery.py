"""What a kill, or another beginning of a batch, leaves in the spool that nobody needs."""

import shutil
from collections.abc import Collection
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store.durable import remove_if_empty
from iscl_node.store.layout import Layout, matches


def recover(layout: Layout) -> int:
    """Remove it, and say how many instances were half-received."""
    for outbox in matches(layout.outboxes, "*/*/"):
        if not is_under_way(layout, Batch(outbox.parent.name, outbox.name)):
            remove_outbox(layout, Batch(outbox.parent.name, outbox.name))
    leftovers = list(layout.receiving.iterdir())
    for leftover in leftovers:
        _remove(leftover)
    for folder in layout.state(SeriesState.OPEN).iterdir():
        remove_if_empty(folder)
    return len(leftovers)


def is_under_way(layout: Layout, batch: Batch) -> bool:
    """Whether a batch is closed or sent; asked in the order of its way, so that one that moves is not missed."""
    return any(layout.batch(state, batch).exists() for state in (SeriesState.CLOSED, SeriesState.SENT))


def remove_outbox(layout: Layout, batch: Batch) -> None:
    """Remove the derived instances of a batch."""
    outbox = layout.outbox(batch)
    _remove(outbox)
    remove_if_empty(outbox.parent)


def remove_other_series(outbox: Path, series_uids: Collection[str]) -> None:
    """Remove the series that an earlier beginning of a batch, with another model or rule, left in its outbox.

    Raises
    ------
    OSError
        The disk refuses it; a part may be removed.
    """
    for folder in matches(outbox, "*/"):
        if folder.name not in series_uids:
            shutil.rmtree(folder)


def _remove(path: Path) -> None:
    """Remove a file or a folder, present or not."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
