"""A delivered series once more: everything made anew as the settings are now, or the same objects sent once more."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.store import tree
from iscl_node.store.batches.recovery import remove_outbox
from iscl_node.store.durable import move_folder, remove_if_empty, sync_folder
from iscl_node.store.inventory import batch_folders
from iscl_node.store.layout import Layout, is_uid
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

_UNDER_WAY = (SeriesState.CLOSED, SeriesState.SENT)


def redo(spool: Spool, series_uid: str, now: datetime) -> Batch | None:
    """Give a delivered series back to the workflow as one batch under a new key; None if it is not here.

    Its destinations keep what they have: under another model, profile or strength everything has another UID. What
    was made before goes from the spool. A kill in between leaves a delivered series, maybe of fewer batches.

    Parameters
    ----------
    spool : Spool
        Where it is kept.
    series_uid : str
        Its Series Instance UID.
    now : datetime
        Names the new batch.

    Raises
    ------
    RetryLaterError
        A batch of it is not delivered yet.
    OSError
        The disk refuses it.
    """
    layout, delivered = Layout(spool.root), delivered_folders(spool, series_uid)
    if not delivered:
        return None
    first, *later = delivered
    for folder in later:
        _join(folder, first)
    new = spool.fresh_batch(series_uid, now)
    move_folder(first, layout.batch(SeriesState.CLOSED, new))
    for folder in delivered:
        if not folder.exists():
            remove_outbox(layout, Batch(series_uid, folder.name))
    remove_if_empty(first.parent)
    return new


def resend(spool: Spool, series_uid: str, destinations: Collection[str], running_seconds: float) -> dict[str, int]:
    """Have the derived objects of a delivered series sent once more, as they are.

    The delivery record of each batch says so before the batch is under way again; a kill in between changes nothing
    that counts.

    Parameters
    ----------
    spool : Spool
        Where they are kept.
    series_uid : str
        The Series Instance UID of what was received.
    destinations : collection of str
        To which; the others keep what they have confirmed.
    running_seconds : float
        How long the node has run so far: `give_up_hours` counts from here.

    Returns
    -------
    dict of str to int
        How many objects each destination is sent; without those that the series never went to.

    Raises
    ------
    RetryLaterError
        A batch of it is not delivered yet.
    OSError
        The disk refuses it.
    """
    layout, deliveries, counts = Layout(spool.root), Deliveries(spool.root), dict[str, int]()
    for folder in delivered_folders(spool, series_uid):
        batch = Batch(series_uid, folder.name)
        instances = len(spool.derived_instances(batch))
        names = deliveries.begin_again(batch, destinations, running_seconds) if instances else ()
        if names:
            move_folder(folder, layout.batch(SeriesState.CLOSED, batch))
            remove_if_empty(folder.parent)
        for name in names:
            counts[name] = counts.get(name, 0) + instances
    return counts


def delivered_folders(spool: Spool, series_uid: str) -> list[Path]:
    """The folders of a series' delivered batches, oldest first.

    Raises
    ------
    RetryLaterError
        A batch of it is not delivered yet.
    """
    layout = Layout(spool.root)
    if not is_uid(series_uid):
        return []
    if any(batch_folders(layout.series(state, series_uid)) for state in _UNDER_WAY):
        raise RetryLaterError(f"series {series_uid} is still on its way; wait until it is delivered")
    return batch_folders(layout.series(SeriesState.DONE, series_uid))


def _join(folder: Path, into: Path) -> None:
    """Move what a batch has into an earlier one; what that has already stays where it is."""
    for path in tree.files(folder):
        if not (into / path.name).exists():
            path.rename(into / path.name)
    sync_folder(into)
    with suppress(FileNotFoundError):
        sync_folder(folder)
    remove_if_empty(folder)
