"""Which batches and which open series the spool holds; what has another name is left alone, and reported."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.known_folders import Folder, KnownFolders
from iscl_node.store.layout import CONFLICT_PREFIX, Layout, file_name, is_uid, time_of

ENDED_STATES = (SeriesState.DONE, SeriesState.IGNORED)
"""Of which there are many, for a time."""
BATCH_STATES = (SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE, SeriesState.IGNORED, SeriesState.QUARANTINE)


def batches(layout: Layout, state: SeriesState) -> Iterator[Batch]:
    """The batches in a state."""
    for series in _series(layout, state):
        for folder in batch_folders(series, is_listed=True):
            yield Batch(series.name, folder.name)


def known_batches(layout: Layout, state: SeriesState, known: KnownFolders) -> Iterator[tuple[Batch, float]]:
    """The same, and when each changed last, in seconds since the epoch; only what changed is looked through again."""
    for series, folder in known.look(layout.state(state)).folders.items():
        if is_uid(series):
            yield from ((Batch(series, key), each.changed) for key, each in folder.folders.items() if _is_key(key))


def ended_counts(layout: Layout, known: KnownFolders) -> dict[SeriesState, int]:
    """How many batches were delivered, or ignored."""
    return {state: sum(1 for _ in known_batches(layout, state, known)) for state in ENDED_STATES}


def last_ends(layout: Layout) -> list[int]:
    """Other numbers than before if a series was delivered or ignored, or one that was is gone."""
    return [layout.state(state).stat().st_mtime_ns for state in ENDED_STATES]


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


def places_of(layout: Layout, sop_uids: Collection[str]) -> dict[str, Path]:
    """Where received instances lie, in the order of their way, so that one that moves is not missed."""
    wanted = {file_name(uid): uid for uid in sop_uids}
    found: dict[str, Path] = {}
    for state in SeriesState:
        for series in _series(layout, state):
            for folder in [series] if state is SeriesState.OPEN else batch_folders(series):
                if not folder.name.startswith(CONFLICT_PREFIX):
                    found |= {wanted[name]: folder / name for name in tree.names(folder, ".dcm") if name in wanted}
    return found


def strays(layout: Layout, known: KnownFolders) -> dict[str, int]:
    """How much in each state has a name, or is of a kind, that the spool gives nothing: links, files, foreign names."""
    found = {state: _strays_in(known.look(layout.state(state)), state) for state in SeriesState}
    return {state.value: count for state, count in found.items() if count > 0}


def _strays_in(top: Folder, state: SeriesState) -> int:
    series = [folder for name, folder in top.folders.items() if is_uid(name)]
    batches_too = series if state is not SeriesState.OPEN else []
    foreign = sum(each.others + sum(not _is_key(name) for name in each.folders) for each in batches_too)
    return top.others + len(top.folders) - len(series) + foreign


def _series(layout: Layout, state: SeriesState) -> list[Path]:
    return [folder for folder in tree.folders(layout.state(state)) if is_uid(folder.name)]


def _is_key(name: str) -> bool:
    return time_of(name) is not None or name.startswith(CONFLICT_PREFIX)
