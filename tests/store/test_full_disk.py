"""The disk is full at each write, sync, rename and new folder of each act of the spool, one after the other."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from spool_acts import ACTS, contents

from iscl_node.errors import RejectInstanceError, RetryLaterError
from iscl_node.store.spool import Spool

REFUSALS = (OSError, RejectInstanceError, RetryLaterError)
"""What tells the caller that nothing was promised: the sender keeps its copy, or the step is tried again."""


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
        for place, name in ((os, "write"), (os, "fsync"), (os, "link"), (Path, "rename"), (Path, "mkdir")):
            patch.setattr(place, name, disk.refusing(getattr(place, name)))
        yield disk


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.fault(
    "spool",
    "the disk is full at any one write, sync, link, rename or new folder of any act of the spool",
    "nothing that was there is lost, no success is answered without the bytes, and the act can be repeated",
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
        assert not list((spool.root / "receiving").glob("*/*")), refused
    assert refused > 1
