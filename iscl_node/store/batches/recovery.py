"""Removes files that a kill, or an earlier plan of the same batch, left in the spool."""

from collections.abc import Collection
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.durable import PART_SUFFIX, remove_if_empty
from iscl_node.store.inventory import outboxes
from iscl_node.store.layout import Layout, is_uid

_WITH_OUTBOX = (SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE)


def recover(layout: Layout, worker: str) -> int:
    """Remove it, and say how many instances this worker had half-received; what others receive stays."""
    for batch in outboxes(layout):
        if not keeps_outbox(layout, batch):
            remove_outbox(layout, batch)
    of_earlier_releases = tree.files(layout.receiving, PART_SUFFIX)
    for leftover in of_earlier_releases:
        tree.remove(leftover)
    half_received = clear_receiving(layout.root, worker)
    tree.remove(layout.former_commitments)
    for folder in tree.folders(layout.state(SeriesState.OPEN)):
        if is_uid(folder.name):
            remove_if_empty(folder)
    return len(of_earlier_releases) + half_received


def clear_receiving(root: Path, worker: str) -> int:
    """Remove what a worker, which does not receive now, had half-received, and say how many instances that were."""
    own = Layout(root).receiving_of(worker)
    leftovers = [own / name for name in tree.names(own)]
    for leftover in leftovers:
        tree.remove(leftover)
    return len(leftovers)


def keeps_outbox(layout: Layout, batch: Batch) -> bool:
    """Whether a batch is closed, sent or done; asked in the order of its way, so that one that moves is not missed."""
    return any(layout.batch(state, batch).exists() for state in _WITH_OUTBOX)


def remove_outbox(layout: Layout, batch: Batch) -> None:
    """Remove the derived instances of a batch."""
    outbox = layout.outbox(batch)
    tree.remove(outbox)
    remove_if_empty(outbox.parent)


def remove_other_series(outbox: Path, series_uids: Collection[str]) -> None:
    """Remove the series that an earlier beginning of a batch, with another model or rule, left in its outbox.

    Raises
    ------
    OSError
        The disk refuses it; a part may be removed.
    """
    for folder in tree.folders(outbox):
        if folder.name not in series_uids:
            tree.remove_folder(folder)
