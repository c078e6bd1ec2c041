"""The batches of a series that were closed before another one, and are or were on their way to the destinations."""

from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.batches import batch_folders
from iscl_node.store.layout import Layout, time_of

_PROCESSED = (SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE)


def earlier_instances(root: Path, batch: Batch) -> list[Path]:
    """The files of all earlier batches; they may move at any time.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    batch : Batch
        Only batches of its series that were closed before it count.
    """
    layout = Layout(root)
    series = (layout.series(state, batch.series_instance_uid) for state in _PROCESSED)
    folders = (folder for each in series for folder in batch_folders(each))
    earlier = [folder for folder in folders if time_of(folder.name) is not None and folder.name < batch.key]
    return sorted(path for folder in earlier for path in tree.files(folder, ".dcm"))
