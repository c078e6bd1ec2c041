"""Series that are open: what is here of them, and which of them wait for what is missing."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from iscl_node.domain import IncompleteSeries, SeriesState
from iscl_node.store import tree
from iscl_node.store.durable import replace_synced
from iscl_node.store.inventory import batch_folders
from iscl_node.store.layout import Layout, is_uid

INCOMPLETE_SERIES_FILE = "incomplete.json"
"""In the root of the spool: for other processes than the node; the node itself does not read it."""


class OpenSeries:
    """Looks at open series.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)

    def instances(self, series_uid: str) -> dict[str, Path]:
        """The folders in which the instances of an open series lie, by file name."""
        folder = self._layout.open_series(series_uid)
        return dict.fromkeys(_names(folder), folder)

    def earlier_instances(self, series_uid: str) -> dict[str, Path]:
        """The same of the series' batches in any state; they may move at any time."""
        states = (state for state in SeriesState if state is not SeriesState.OPEN)
        folders = (folder for state in states for folder in batch_folders(self._layout.series(state, series_uid)))
        return {name: folder for folder in folders for name in _names(folder)}

    def last_arrival(self, series_uid: str) -> float | None:
        """When something last arrived, in seconds since the epoch; None for a series that is not open."""
        try:
            return self._layout.open_series(series_uid).stat().st_mtime
        except FileNotFoundError:
            return None

    def note_incomplete(self, incomplete: Iterable[IncompleteSeries]) -> None:
        """Write for other processes which open series wait, in place of what was written before.

        Raises
        ------
        OSError
            The file system refuses it; what was written before stays.
        """
        path = self._layout.root / INCOMPLETE_SERIES_FILE
        replace_synced(path, json.dumps([asdict(each) for each in incomplete]).encode())

    def incomplete(self) -> list[IncompleteSeries]:
        """The series that wait, as the node last wrote it, as far as they are open and it can be read."""
        told = []
        with suppress(FileNotFoundError, ValueError):
            told = json.loads((self._layout.root / INCOMPLETE_SERIES_FILE).read_bytes())
        series = [read for each in (told if isinstance(told, list) else ()) if (read := _incomplete(each))]
        return [each for each in series if self.instances(each.series_instance_uid)]


def _incomplete(told: object) -> IncompleteSeries | None:
    with suppress(TypeError):
        series = IncompleteSeries(**told)  # type: ignore[arg-type]  # anything, from a file
        return series if is_uid(series.series_instance_uid) else None
    return None


def _names(folder: Path) -> list[str]:
    """The instances in a folder.

    What is no file, such as a pipe or a link, is left to the workflow: the reading of it might never end.
    """
    return [path.name for path in tree.files(folder, ".dcm")]
