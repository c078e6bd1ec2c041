"""What the page shows of all series: their states from the spool, with facts from their headers."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Final

from iscl_node.dicom.reading.display import IDENTITY, SeriesDescription, read_description, without_identity
from iscl_node.domain import Batch, SeriesState
from iscl_node.domain.hours import wait_seconds
from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.page.planned import Planned, planned_of
from iscl_node.store.layout import time_of
from iscl_node.store.listing import Delivered, ListedBatch, Listing

_READ_AT_ONCE: Final = 200
"""Headers that one look reads at most, so that a first look at very many series does not take minutes."""


class Step(StrEnum):
    """How far a batch is, in the order of its way; the values are shown, and are part of addresses."""

    RECEIVING = "receiving"
    WAITING = "waiting"
    DENOISING = "denoising"
    CHECKING = "checking"
    SENDING = "sending"
    CONFIRMING = "confirming"
    DONE = "done"
    IGNORED = "ignored"
    QUARANTINE = "quarantine"


IN_HAND: Final = (Step.DENOISING, Step.CHECKING, Step.SENDING, Step.RECEIVING, Step.WAITING, Step.CONFIRMING)
"""What is not at its end, with what is worked on first."""
_OLDEST_SECONDS: Final = 30.0
"""Older rows are not shown to anybody: who comes first after a while waits for new ones."""
_MOST_GONE: Final = 1000
_NOT_READ: Final = SeriesDescription()
_ORDER: Final = {step: number for number, step in enumerate([*IN_HAND, Step.QUARANTINE, Step.DONE, Step.IGNORED])}


@dataclass(frozen=True)
class Row:
    """One batch as it is shown."""

    listed: ListedBatch
    described: SeriesDescription
    step: Step

    @property
    def series_uid(self) -> str:
        """Series Instance UID of what was received."""
        return self.listed.batch.series_instance_uid

    @property
    def key(self) -> str:
        """Of the batch; 'open' for a series that is still open."""
        return self.listed.batch.key or SeriesState.OPEN.value

    @cached_property
    def planned(self) -> Planned:
        """What was decided for it."""
        return planned_of(self.listed.plan)

    @property
    def rule(self) -> str:
        """Name of the rule; empty until one is chosen."""
        return self.planned.rule

    @property
    def slices(self) -> int:
        """How many instances were received."""
        return len(self.listed.instances)

    @property
    def derived(self) -> int:
        """How many source instances are through: the number in the derived series that has the fewest."""
        made = self.listed.derived
        return min((made.get(uid, 0) for uid in self.planned_series), default=max(made.values(), default=0))

    @property
    def planned_series(self) -> tuple[str, ...]:
        """The derived series that the plan wants."""
        return self.planned.series_uids

    @property
    def goes_to(self) -> tuple[str, ...]:
        """The names of its destinations, as far as they are decided."""
        known = [each.destination for each in self.listed.deliveries]
        return tuple(known) or self.planned.send_to

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of it, and what was corrected."""
        return self.planned.notes

    @property
    def reason(self) -> str:
        """Why it is where it is; empty if that is plain."""
        refusals = [f"{each.destination} refuses: {each.refusal}" for each in self.listed.deliveries if each.refusal]
        return self.listed.reason or "; ".join(refusals) or _wait_of(self)

    @cached_property
    def searched(self) -> str:
        """What a search looks at, for who may see the patient."""
        return _searched(self, ())

    @cached_property
    def searched_without_identity(self) -> str:
        """What a search looks at, for everybody else."""
        return _searched(self, IDENTITY)

    @property
    def next_try(self) -> str:
        """When something is tried next of what waits (ISO 8601); empty where nothing waits for a time."""
        if self.step not in IN_HAND:
            return ""
        waits = [self.listed.wait, *(each.wait for each in self.listed.deliveries)]
        untils = [wait.until for wait in waits if wait is not None]
        return datetime.fromtimestamp(min(untils), UTC).isoformat(timespec="seconds") if untils else ""

    @property
    def remaining_seconds(self) -> float | None:
        """How long its denoising will go on, from how long it took so far; None where that is not known."""
        begun, last = self.listed.planned_at, self.listed.made_at
        if self.step is not Step.DENOISING or not self.derived or begun is None or last is None:
            return None
        return max(0.0, (last - begun) * (self.slices - self.derived) / self.derived)


class Overview:
    """Shows what is in the spool; safe to be used by several threads.

    A thread of its own makes what is shown, so that who asks never waits for long when there are very many series.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    describe : callable
        Reads the description of a series from one of its files.
    longest_wait_seconds : float
        How long who asks waits for newer rows; then those before are shown, if they are no older than half a minute.
    first_wait_seconds : float, optional
        How long who asks waits where there are none, or only older ones; None for as long as it takes.
    """

    def __init__(
        self,
        root: Path,
        describe: Callable[[Path], SeriesDescription] = read_description,
        longest_wait_seconds: float = 0.1,
        first_wait_seconds: float | None = None,
    ) -> None:
        self._listing = Listing(root)
        self._describe = describe
        self._longest_wait_seconds = longest_wait_seconds
        self._first_wait_seconds = first_wait_seconds
        self._described: dict[str, SeriesDescription] = {}
        self._shown: _Shown = _Shown(None, [], {}, -_OLDEST_SECONDS)
        self._lock = threading.Lock()
        self._maker = ThreadPoolExecutor(1, "overview")
        self._making: Future[_Shown] | None = None

    def rows(self) -> list[Row]:
        """Every batch, what is worked on first, then the newest first; the same list as long as nothing changed.

        Raises
        ------
        RetryLaterError
            The spool is read for the first time, or for the first time in a while, and that goes on.
        """
        is_old = time.monotonic() - self._shown.looked_at >= _OLDEST_SECONDS
        with suppress(FutureTimeout):
            return self._newer().result(self._first_wait_seconds if is_old else self._longest_wait_seconds).rows
        if is_old:
            raise RetryLaterError("the spool is being read; with very many series that takes a while after a start")
        return self._shown.rows

    def _newer(self) -> "Future[_Shown]":
        with self._lock:
            if self._making is None or self._making.done():
                self._making = self._maker.submit(self._make)
            return self._making

    def _make(self) -> "_Shown":
        snapshot, before = self._listing.batches(), self._shown
        if snapshot is before.snapshot:
            self._shown = replace(before, looked_at=time.monotonic())
            return self._shown
        listed = sorted(snapshot, key=lambda each: -each.since)
        is_complete = self._learn(listed)
        self._forget(listed)
        by_batch = {each.batch: self._row(each, before.by_batch.get(each.batch)) for each in listed}
        rows = sorted(by_batch.values(), key=lambda row: _ORDER[row.step])
        if rows == before.rows:
            rows = before.rows
        self._shown = _Shown(snapshot if is_complete else None, rows, by_batch, time.monotonic())
        return self._shown

    def _row(self, listed: ListedBatch, before: Row | None) -> Row:
        """The row before if nothing of it changed: what is searched in it was put together already."""
        row = before if before is not None and before.listed == listed else Row(listed, _NOT_READ, step_of(listed))
        described = self._known(listed)
        return row if row.described is described else replace(row, described=described)

    def series(self, series_uid: str) -> list[Row]:
        """The batches of one series, newest first; empty if it is not here."""
        listed = self._listing.series(series_uid)
        self._learn(listed)
        rows = [Row(each, self._known(each), step_of(each)) for each in listed]
        return sorted(rows, key=lambda row: row.key, reverse=True)

    def row(self, series_uid: str, key: str) -> Row | None:
        """One batch; None if it is not here."""
        return next((row for row in self.series(series_uid) if row.key == key), None)

    def _known(self, listed: ListedBatch) -> SeriesDescription:
        return self._described.get(listed.batch.series_instance_uid, _NOT_READ)

    def _learn(self, listed: Iterable[ListedBatch]) -> bool:
        """Read headers of series that were not seen before, some at a time, and say whether these were all."""
        present = {each.batch.series_instance_uid: each for each in listed if each.instances}
        unknown = [uid for uid in present if uid not in self._described][:_READ_AT_ONCE]
        for uid in unknown:
            each = present[uid]
            self._described[uid] = self._describe(each.folder / each.instances[0])
        return len(unknown) < _READ_AT_ONCE

    def _forget(self, listed: Collection[ListedBatch]) -> None:
        """Drop descriptions of series that are gone, when there are many."""
        if len(self._described) > len(listed) + _MOST_GONE:
            present = {each.batch.series_instance_uid for each in listed}
            self._described = {uid: each for uid, each in list(self._described.items()) if uid in present}


def step_of(listed: ListedBatch) -> Step:
    """How far a batch is."""
    if listed.state is not SeriesState.CLOSED:
        return _STEPS[listed.state]
    if listed.deliveries:
        return Step.SENDING
    made, planned = listed.derived, planned_of(listed.plan)
    wanted = planned.series_uids or tuple(made)
    if not made and (not listed.plan or wait_seconds({"not_before": planned.not_before})):
        return Step.WAITING
    is_made = bool(wanted) and all(made.get(uid, 0) >= len(listed.instances) for uid in wanted)
    return Step.CHECKING if is_made else Step.DENOISING


_STEPS: Final[Mapping[SeriesState, Step]] = {
    SeriesState.OPEN: Step.RECEIVING,
    SeriesState.SENT: Step.CONFIRMING,
    SeriesState.DONE: Step.DONE,
    SeriesState.IGNORED: Step.IGNORED,
    SeriesState.QUARANTINE: Step.QUARANTINE,
}


def shown(row: Row, with_identity: bool) -> Row:
    """The row for somebody who may, or may not, see who the patient is."""
    return row if with_identity else Row(row.listed, without_identity(row.described), row.step)


@dataclass(frozen=True)
class _Shown:
    """What is shown: of which snapshot, None if some headers are still to be read, and when it was looked at last."""

    snapshot: tuple[ListedBatch, ...] | None
    rows: list[Row]
    by_batch: Mapping[Batch, Row]
    looked_at: float


def matching(rows: Iterable[Row], text: str, with_identity: bool) -> list[Row]:
    """The rows that have every word of ``text`` in what is shown of them; of the identity only for who may see it."""
    words = text.casefold().split()
    if with_identity:
        return [row for row in rows if all(word in row.searched for word in words)]
    return [row for row in rows if all(word in row.searched_without_identity for word in words)]


def _searched(row: Row, hidden: Collection[str]) -> str:
    told = [value for name, value in vars(row.described).items() if name not in hidden]
    return " ".join([*told, row.series_uid, row.rule, *row.goes_to, row.reason, row.step]).casefold()


def _wait_of(row: Row) -> str:
    """What a batch waits for that is neither ignored nor in quarantine."""
    if row.listed.wait is not None:
        return row.listed.wait.reason
    if row.step is Step.WAITING:
        not_before = row.planned.not_before
        return f"waits for the hours of its rule, {not_before}" if not_before else "waits for its turn"
    if row.step is Step.CONFIRMING:
        names = [each.destination for each in row.listed.deliveries if not each.confirmed_by and not each.refusal]
        told = [f"{each.destination}: {each.wait.reason}" for each in row.listed.deliveries if each.wait is not None]
        return "; ".join([f"waits until {', '.join(names)} confirms that it keeps everything", *told]) if names else ""
    if row.step is Step.SENDING:
        return "; ".join(_delay(row, each) for each in row.listed.deliveries)
    return ""


def _delay(row: Row, to: Delivered) -> str:
    wanted = sum(row.listed.derived.values())
    if to.stored >= wanted:
        return f"{to.destination} has everything"
    if to.wait is not None:
        return f"{to.destination}: {to.wait.reason}"
    if to.last.get("event") == "answered" and not to.last.get("stored"):
        return f"{to.destination} answered {to.last.get('status')} last, is tried again"
    return f"{to.destination} has {to.stored} of {wanted}"


def closed_at(row: Row) -> float | None:
    """When the batch was closed, in seconds since the epoch."""
    closed = time_of(row.listed.batch.key)
    return None if closed is None else closed.timestamp()
