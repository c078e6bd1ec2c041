"""The disk is full at each write, sync, rename and new folder of each act of the spool, one after the other."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from spool_contents import NOW, SERIES, header, part10

from iscl_node.domain import Batch
from iscl_node.errors import RejectInstanceError, RetryLaterError
from iscl_node.store.spool import Spool

Act = Callable[[Spool], object]

REFUSALS = (OSError, RejectInstanceError, RetryLaterError)
"""What tells the caller that nothing was promised: the sender keeps its copy, or the step is tried again."""


BATCH = Batch(SERIES, "20261122T235959.123456Z")


def _closed_batch(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    spool.close(SERIES, NOW)


def _batch_in_quarantine(spool: Spool) -> None:
    _closed_batch(spool)
    spool.quarantine(BATCH, "why")


def _close(spool: Spool) -> None:
    with contextlib.suppress(FileNotFoundError):  # closed at the first try, of which only the sync failed
        spool.close(SERIES, NOW)


ACTS: dict[str, tuple[Act, Act]] = {
    "a new series": (lambda spool: None, lambda spool: spool.store(header(), part10(b"a"))),
    "a new instance": (
        lambda spool: spool.store(header(), part10(b"a")),
        lambda spool: spool.store(header("1.2.3.2"), part10(b"b")),
    ),
    "a conflict": (
        lambda spool: spool.store(header(), part10(b"a")),
        lambda spool: spool.store(header(), part10(b"b")),
    ),
    "close": (lambda spool: spool.store(header(), part10(b"a")), _close),
    "write_derived": (_closed_batch, lambda spool: spool.write_derived(BATCH, "2.25.1", "2.25.2", b"derived")),
    "release": (_closed_batch, lambda spool: spool.release(BATCH)),
    "quarantine": (_closed_batch, lambda spool: spool.quarantine(BATCH, "why")),
    "requeue": (_batch_in_quarantine, lambda spool: spool.requeue(SERIES, NOW + timedelta(days=1))),
}
"""What each act of the spool finds, and the act."""


class FullDisk:
    """Refuses the call of this number among those that need room, and counts them."""

    def __init__(self, refused: int) -> None:
        self._refused = refused
        self.calls = 0

    def refusing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls - 1 == self._refused:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call


@contextlib.contextmanager
def full_disk(refused: int) -> Iterator[FullDisk]:
    disk = FullDisk(refused)
    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((os, "write"), (os, "fsync"), (Path, "rename"), (Path, "mkdir")):
            patch.setattr(place, name, disk.refusing(getattr(place, name)))
        yield disk


def contents(spool: Spool) -> list[tuple[str, bytes]]:
    """Every instance with the place where it lies."""
    return sorted((str(path.relative_to(spool.root)), path.read_bytes()) for path in spool.root.rglob("*.dcm"))


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.fault(
    "spool",
    "the disk is full at any one write, sync, rename or new folder of any act of the spool",
    "nothing that was there is lost, no success is told without the bytes, and the act can be repeated",
)
def test_a_disk_that_is_full_at_any_write_loses_nothing_and_the_act_can_be_repeated(act: str, tmp_path: Path) -> None:
    prepare, do = ACTS[act]
    whole = Spool.open(tmp_path / "whole", min_free_bytes=0)
    prepare(whole)
    do(whole)
    for refused in count():
        spool = Spool.open(tmp_path / str(refused), min_free_bytes=0)
        prepare(spool)
        before = {content for _, content in contents(spool)}
        with full_disk(refused) as disk, contextlib.suppress(*REFUSALS):
            do(spool)
            assert contents(spool) == contents(whole), refused
        if disk.calls <= refused:
            break
        assert {content for _, content in contents(spool)} >= before, refused
        assert all(each.files for each in spool.quarantined()), refused
        do(spool)
        assert contents(spool) == contents(whole), refused
        assert not list((spool.root / "receiving").iterdir()), refused
    assert refused > 1
