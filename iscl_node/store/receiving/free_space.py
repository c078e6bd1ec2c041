"""Space for the derived objects that accepted series will need, so that a full disk never stops all of them for ever.

What is received is accepted only while the derived objects of everything accepted before still fit. If space is short
all the same, since other programs fill the disk or derived objects turn out larger, series are made one after the
other: a series begins to be made only when what started ones still need leaves enough for it, or there are none.
A started one that is not continued, as after an upgrade, holds up the others for a while only: they may have all the
places in which it could be gone on with.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from iscl_node.domain import Batch, SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.store import tree
from iscl_node.store.durable import make_folder
from iscl_node.store.inventory import batches, open_series
from iscl_node.store.layout import Layout
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.plan import kept_plan

_KEPT_SHARE: Final = 4
"""A quarter of the reserve stays for what is small: the workflow database, records, the log."""

_LEAST_KEPT_BYTES: Final = 1 << 20
"""Kept for it however small the reserve: what is made and cannot be recorded as sent never gives its space back."""

_GRACE_SECONDS: Final = 600
"""How long a series that was started is waited for while it is not made here."""


class Room:
    """Knows how much space is promised.

    Parameters
    ----------
    layout : Layout
        The spool's folders.
    min_free_bytes : int
        The reserve that receiving leaves.
    derived_per_received : float
        Bytes of derived objects for each byte that is received, at most; what was planned of a batch counts instead.
    """

    def __init__(self, layout: Layout, min_free_bytes: int, derived_per_received: float = 0) -> None:
        self._layout = layout
        self._kept_bytes = max(min_free_bytes // _KEPT_SHARE, _LEAST_KEPT_BYTES)
        self._derived_per_received = derived_per_received
        self._deliveries = Deliveries(layout.root)
        self._promised = 0.0
        self._made_here: set[Batch] = set()
        self._waited_for: set[Batch] = set()
        self._waiting_since = 0.0

    @property
    def promised_bytes(self) -> int:
        """What was accepted still needs so much, by the last measurement and what arrived since."""
        return int(self._promised)

    def note_received(self, size: int) -> None:
        """An instance of so many bytes is new."""
        self._promised += size * self._derived_per_received

    def measure(self) -> int:
        """Look how much what is here still needs, and return it."""
        received = sum(sum(tree.sizes(folder)) for folder, _ in open_series(self._layout))
        self._promised = received * self._derived_per_received + sum(map(self._needed, self._closed()))
        return self.promised_bytes

    def admit(self, batch: Batch) -> None:
        """Let a batch begin to be made; it has started when its outbox is there, also after a restart.

        Raises
        ------
        RetryLaterError
            Others that were started need the space.
        OSError
            The disk refuses the outbox.
        """
        outbox = self._layout.outbox(batch)
        if outbox.is_dir():
            return
        with _alone_in(self._layout.outboxes):
            begun = [each for each in self._closed() if each != batch and self._layout.outbox(each).is_dir()]
            left = shutil.disk_usage(self._layout.root).free - self._kept_bytes - sum(map(self._needed, begun))
            unfinished = {each for each in begun if not self._is_made(each)}
            if left < self._needed(batch) and unfinished and self._is_waited_for(unfinished):
                raise RetryLaterError("the disk is short of space, and other series are finished first")
            try:
                make_folder(outbox)
            except FileNotFoundError as error:  # its series' folder was empty, and went at this moment
                raise RetryLaterError("another batch of the series comes to its end") from error

    @contextmanager
    def made_here(self, batch: Batch) -> Iterator[None]:
        """Make a batch; as long as that lasts the others wait for it when space is short."""
        self._made_here.add(batch)
        try:
            yield
        finally:
            self._made_here.discard(batch)

    def _is_waited_for(self, unfinished: set[Batch]) -> bool:
        """Whether one of these is made here, or was, or may be made by another worker, a short while ago."""
        is_made = not self._made_here.isdisjoint(unfinished)
        if is_made or unfinished != self._waited_for:
            self._waited_for, self._waiting_since = unfinished, time.monotonic()
        return is_made or time.monotonic() - self._waiting_since < _GRACE_SECONDS

    def _closed(self) -> list[Batch]:
        return list(batches(self._layout, SeriesState.CLOSED))

    def _is_made(self, batch: Batch) -> bool:
        """Whether it is known where a batch goes; one of which the disk cannot say holds up no other."""
        try:
            return bool(self._deliveries.destinations(batch))
        except OSError:
            return True

    def _needed(self, batch: Batch) -> float:
        """What a closed batch still needs; nothing once all is made."""
        if self._is_made(batch):
            return 0
        plan = None
        with suppress(OSError):
            plan = kept_plan(self._layout.root, batch)
        made = sum(sum(tree.sizes(folder)) for folder in tree.folders(self._layout.outbox(batch)))
        if plan is not None and isinstance(plan.get("expected_bytes"), int):
            return float(max(0, plan["expected_bytes"] - made))
        received = sum(tree.sizes(self._layout.batch(SeriesState.CLOSED, batch)))
        return max(0.0, received * self._derived_per_received - made)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other threads, and other workers on the spool, out of here (flock(2))."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
