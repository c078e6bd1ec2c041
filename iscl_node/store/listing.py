"""The states of all series, from the spool alone: the same after a restart, and in every process.

Looking costs little: a batch that has ended is read once, and again only when its series' folder changed; a snapshot is
made anew at most every second, and rests ten times as long as its making took, so that no reader slows the node.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from iscl_node.domain import Batch, SeriesState
from iscl_node.errors import text_of
from iscl_node.store import tree
from iscl_node.store.inventory import batch_folders, open_series
from iscl_node.store.layout import INCOMPLETE_FILE, PICTURE_FILE, REASON_FILE, Layout, is_uid
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.records.deliveries import entries, record_file, summary
from iscl_node.store.records.waits import Wait, read_wait, wait_file

_REST_SECONDS: Final = 1.0
_REST_RATIO: Final = 10.0
_CHANGING: Final = (SeriesState.CLOSED, SeriesState.SENT)
_ENDED: Final = (SeriesState.DONE, SeriesState.IGNORED, SeriesState.QUARANTINE)
_UNREADABLE: Final = "unreadable"
"""In place of the keys of the batches of a series whose folder cannot be read."""
_NOT_READABLE: Final = (OSError, ValueError)


@dataclass(frozen=True)
class Delivered:
    """What is known of a batch at one destination.

    ``stored`` and ``missing`` count instances; ``wait`` is why it waits for the next try; nothing more is stored
    where it ``is_stopped``; ``events`` are the lines of its record, oldest first, those of answers
    given once for each run of equal ones.
    """

    destination: str
    stored: int = 0
    missing: int = 0
    refusal: str = ""
    confirmed_by: str = ""
    events: tuple[Mapping[str, Any], ...] = ()
    wait: Wait | None = None
    is_stopped: bool = False

    @property
    def last(self) -> Mapping[str, Any]:
        """The last line of the record; empty if nothing was answered."""
        return self.events[-1] if self.events else {}


@dataclass(frozen=True)
class ListedBatch:
    """A batch, or a series that is still open (its batch's key is empty), as it is in the spool.

    ``since`` is when it came into its state, or last grew, in seconds since the epoch. ``instances`` were received,
    ``derived`` are made, by Series Instance UID, ``plan`` is what was decided for it, ``reason`` why it is set aside or
    what it waits for; ``wait`` is why it is not worked on now.
    """

    batch: Batch
    state: SeriesState
    folder: Path
    since: float
    instances: tuple[str, ...]
    derived: Mapping[str, int] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    deliveries: tuple[Delivered, ...] = ()
    reason: str = ""
    has_picture: bool = False
    wait: Wait | None = None
    planned_at: float | None = None
    made_at: float | None = None
    """When it was decided what is made of it, and when something was made last, in seconds since the epoch."""
    is_readable: bool = True


Remembered = dict[tuple[SeriesState, str], tuple[int, tuple[ListedBatch, ...]]]
"""By state and series: when its folder changed last, in nanoseconds since the epoch, and the batches in it."""


class Listing:
    """Lists what the spool holds; safe to be used by several threads.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    now : callable
        Seconds that only grow.
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._layout = Layout(root)
        self._now = now
        self._lock = threading.Lock()
        self._snapshot: tuple[ListedBatch, ...] | None = None
        self._next = 0.0
        self._ended: Remembered = {}

    def batches(self) -> tuple[ListedBatch, ...]:
        """Everything, in no order. While one thread makes a new snapshot the others are shown the one before."""
        has_lock = self._lock.acquire(blocking=self._snapshot is None)
        if has_lock:
            try:
                if self._snapshot is None or self._now() >= self._next:
                    self._refresh()
            finally:
                self._lock.release()
        return self._snapshot or ()

    def series(self, series_uid: str) -> tuple[ListedBatch, ...]:
        """The batches of one series as they are now; none if this is no UID."""
        if not is_uid(series_uid):
            return ()
        opened = (each for each in self._open() if each.batch.series_instance_uid == series_uid)
        states = (*_CHANGING, *_ENDED)
        closed = (each for state in states for each in self._listed(state, self._layout.series(state, series_uid)))
        return tuple({each.batch: each for each in (*opened, *closed)}.values())

    def _refresh(self) -> None:
        begun = self._now()
        self._snapshot = tuple({each.batch: each for each in self._all()}.values())
        ended = self._now()
        self._next = ended + max(_REST_SECONDS, _REST_RATIO * (ended - begun))

    def _all(self) -> Iterator[ListedBatch]:
        """A batch that moves on in between is met twice, and the later state counts."""
        yield from self._open()
        for state in _CHANGING:
            for series in self._series(state):
                yield from self._listed(state, series)
        known, self._ended = self._ended, {}
        for state in _ENDED:
            for series_uid, changed in tree.changes(self._layout.state(state)):
                yield from self._remembered(state, series_uid, changed, known)

    def _series(self, state: SeriesState) -> list[Path]:
        return [folder for folder in tree.folders(self._layout.state(state)) if is_uid(folder.name)]

    def _open(self) -> Iterator[ListedBatch]:
        waits: dict[str, str] = {}
        with suppress(OSError):
            waits = {each.series_instance_uid: each.missing for each in OpenSeries(self._layout.root).incomplete()}
        for folder, arrival in open_series(self._layout):
            missing = waits.get(folder.name)
            reason = f"waits for what is missing: {missing}" if missing else ""
            names = tuple(tree.names(folder, ".dcm"))
            yield ListedBatch(Batch(folder.name, ""), SeriesState.OPEN, folder, arrival, names, reason=reason)

    def _remembered(
        self, state: SeriesState, series_uid: str, changed: int, known: Remembered
    ) -> tuple[ListedBatch, ...]:
        before = known.get((state, series_uid))
        if before is None or before[0] != changed:
            if not is_uid(series_uid):
                return ()
            before = changed, tuple(self._listed(state, self._layout.series(state, series_uid)))
        if all(each.is_readable for each in before[1]):
            self._ended[state, series_uid] = before
        return before[1]

    def _listed(self, state: SeriesState, series: Path) -> Iterator[ListedBatch]:
        try:
            folders = batch_folders(series)
        except OSError as error:
            yield _unreadable(Batch(series.name, _UNREADABLE), state, series, error)
            return
        for folder in folders:
            batch = Batch(series.name, folder.name)
            try:
                yield self._batch(batch, state, folder)
            except FileNotFoundError:
                continue  # it moves on
            except OSError as error:
                yield _unreadable(batch, state, folder, error)

    def _batch(self, batch: Batch, state: SeriesState, folder: Path) -> ListedBatch:
        since, names = folder.stat().st_mtime, set(tree.names(folder))
        reason = next((name for name in (REASON_FILE, INCOMPLETE_FILE) if name in names), "")
        made = tree.folders(self._layout.outbox(batch))
        plan = folder / f"{batch.key}.plan.json"
        return ListedBatch(
            batch,
            state,
            folder,
            since,
            tuple(sorted(name for name in names if name.endswith(".dcm"))),
            {each.name: len(tree.names(each, ".dcm")) for each in made},
            _object(plan),
            tuple(_deliveries(batch, folder, names)),
            _text(folder / reason) if reason else "",
            PICTURE_FILE in names,
            _wait(folder, wait_file(batch, ""), names),
            _changed(plan) if plan.name in names else None,
            max(filter(None, map(_changed, made)), default=None),
        )


def _unreadable(batch: Batch, state: SeriesState, folder: Path, error: OSError) -> ListedBatch:
    reason = f"its folder cannot be read: {text_of(error)}"
    return ListedBatch(batch, state, folder, _changed(folder) or 0.0, (), reason=reason, is_readable=False)


def _deliveries(batch: Batch, folder: Path, names: set[str]) -> Iterator[Delivered]:
    destinations = _object(folder / f"{batch.key}.destinations.json").get("destinations")
    for destination in destinations if isinstance(destinations, list) else ():
        if not isinstance(destination, str):
            continue
        name = record_file(batch, destination)
        content = b""
        if name in names:
            with suppress(OSError):
                content = tree.read_bytes(folder / name)
        yield _delivered(destination, content, _wait(folder, wait_file(batch, destination), names))


def _wait(folder: Path, name: str, names: set[str]) -> Wait | None:
    return read_wait(folder / name) if name in names else None


def _changed(path: Path) -> float | None:
    with suppress(OSError):
        return path.stat().st_mtime
    return None


def _delivered(destination: str, content: bytes, wait: Wait | None) -> Delivered:
    lines = list(entries(content))
    events = tuple(_runs(lines))
    record = summary(lines)
    confirmed_by = next((str(each.get("way", "")) for each in reversed(lines) if each["event"] == "confirmed"), "")
    return Delivered(
        destination,
        len(record.stored),
        len(record.missing),
        record.refusal,
        confirmed_by if record.is_confirmed else "",
        events,
        wait,
        record.is_stopped,
    )


def _runs(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One event for each run of lines that differ in their instance and time only; ``count`` is their number."""
    run: dict[str, Any] = {}
    for line in lines:
        told = {key: value for key, value in line.items() if key not in ("sop_instance_uid", "sop_class_uid")}
        if run and all(run.get(key) == value for key, value in told.items() if key != "time"):
            run |= {"count": run["count"] + 1, "last": told.get("time", "")}
            continue
        if run:
            yield run
        run = {**told, "count": 1, "last": told.get("time", "")}
    if run:
        yield run


def _object(path: Path) -> dict[str, Any]:
    with suppress(*_NOT_READABLE):
        content = json.loads(tree.read_bytes(path))
        return content if isinstance(content, dict) else {}
    return {}


def _text(path: Path) -> str:
    with suppress(OSError):
        return tree.read_bytes(path).decode(errors="replace").strip()
    return ""
