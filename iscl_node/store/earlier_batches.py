"""The batches of a series that were closed before another one, and are or were on their way to the destinations."""

from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store.layout import Layout, matches, time_of

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
    folders = [
        folder for state in _PROCESSED for folder in matches(layout.series(state, batch.series_instance_uid), "*/")
    ]
    earlier = [folder for folder in folders if time_of(folder.name) is not None and folder.name < batch.key]
    return sorted(path for folder in earlier for path in matches(folder, "*.dcm"))
