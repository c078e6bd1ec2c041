"""The batches of a series that were closed before another one, and are or were on their way to the destinations."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.inventory import batch_folders
from iscl_node.store.layout import Layout, time_of
from iscl_node.store.records.plan import plan_in

_SENT = (SeriesState.SENT, SeriesState.DONE)
_PROCESSED = (SeriesState.CLOSED, *_SENT)


def earlier_instances(root: Path, batch: Batch) -> list[Path]:
    """The files of all earlier batches; they may move at any time.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    batch : Batch
        Only batches of its series that were closed before it count.
    """
    return sorted(path for folder in _earlier(root, batch) for path in tree.files(folder, ".dcm"))


def earlier_plans(root: Path, batch: Batch) -> Iterator[dict[str, Any]]:
    """The plans of all earlier batches that have one, the latest first."""
    for folder in sorted(_earlier(root, batch), key=lambda folder: folder.name, reverse=True):
        plan = plan_in(folder)
        if plan is not None:
            yield plan


def oldest_sent(root: Path, batch: Batch) -> Path | None:
    """The folder of the oldest earlier batch that every destination stored."""
    folders = [folder for folder in _earlier(root, batch) if folder.parent.parent.name in _SENT]
    return min(folders, key=lambda folder: folder.name, default=None)


def _earlier(root: Path, batch: Batch) -> list[Path]:
    layout = Layout(root)
    series = (layout.series(state, batch.series_instance_uid) for state in _PROCESSED)
    folders = (folder for each in series for folder in batch_folders(each))
    return [folder for folder in folders if time_of(folder.name) is not None and folder.name < batch.key]
