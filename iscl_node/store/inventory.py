"""Which batches and which open series the spool holds; what has another name is left alone, and reported."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.layout import CONFLICT_PREFIX, Layout, is_uid, time_of

BATCH_STATES = (SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE, SeriesState.IGNORED, SeriesState.QUARANTINE)


def batches(layout: Layout, state: SeriesState) -> Iterator[Batch]:
    """The batches in a state."""
    for series in _series(layout, state):
        for folder in batch_folders(series, is_listed=True):
            yield Batch(series.name, folder.name)


def instances_under_way(layout: Layout) -> int:
    """How many received instances are in open series and closed batches."""
    open_ = (folder for folder, _ in open_series(layout))
    closed = (layout.batch(SeriesState.CLOSED, batch) for batch in batches(layout, SeriesState.CLOSED))
    return sum(len(tree.names(folder, ".dcm")) for folder in (*open_, *closed))


def batch_folders(series: Path, *, is_listed: bool = False) -> list[Path]:
    """The batches of a series in one state; see `tree.folders`."""
    return [folder for folder in tree.folders(series, is_listed=is_listed) if _is_key(folder.name)]


def outboxes(layout: Layout) -> Iterator[Batch]:
    """The batches that have an outbox."""
    for series in tree.folders(layout.outboxes):
        for folder in batch_folders(series):
            if is_uid(series.name):
                yield Batch(series.name, folder.name)


def open_series(layout: Layout) -> Iterator[tuple[Path, float]]:
    """The folders of open series that hold an instance, each with its modification time in seconds since the epoch."""
    for folder in _series(layout, SeriesState.OPEN):
        with suppress(FileNotFoundError):  # it was closed
            if tree.names(folder, ".dcm"):
                yield folder, folder.stat().st_mtime


def strays(layout: Layout) -> dict[str, int]:
    """How much in each state has a name, or is of a kind, that the spool gives nothing: links, files, foreign names."""
    found: Counter[str] = Counter()
    for state in SeriesState:
        known = _series(layout, state)
        found[state.value] += len(tree.names(layout.state(state))) - len(known)
        if state is not SeriesState.OPEN:
            found[state.value] += sum(len(tree.names(series)) - len(batch_folders(series)) for series in known)
    return {state: count for state, count in found.items() if count > 0}


def _series(layout: Layout, state: SeriesState) -> list[Path]:
    return [folder for folder in tree.folders(layout.state(state)) if is_uid(folder.name)]


def _is_key(name: str) -> bool:
    return time_of(name) is not None or name.startswith(CONFLICT_PREFIX)
