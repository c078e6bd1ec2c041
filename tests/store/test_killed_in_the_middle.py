"""The process ends, as with ``kill -9``, before each system call of each act of the spool, one after the other."""

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from spool_acts import ACTS, Act, contents

from iscl_node.store.spool import Spool

CALLS = (
    *((os, name) for name in ("write", "fsync", "utime", "link")),
    *((Path, name) for name in ("rename", "mkdir", "unlink", "rmdir")),
    (shutil, "rmtree"),
)
"""What changes a disk."""

KILLED = 137


def is_killed_in(act: Act, spool: Spool, fatal: int) -> bool:
    """Do it in a process that ends before the call of this number: no ``finally`` of it runs."""
    child = os.fork()
    if child == 0:
        calls = count()

        def ending(real: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments, **options: (
                os._exit(KILLED) if next(calls) == fatal else real(*arguments, **options)
            )

        for place, name in CALLS:
            setattr(place, name, ending(getattr(place, name)))
        try:
            act(spool)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.fault(
    "spool",
    "`kill -9` before any one system call that changes the disk, in any act of the spool",
    "nothing that was there is lost; after the restart the act can be repeated, and no part file is left",
)
def test_a_kill_before_any_system_call_loses_nothing_and_the_act_can_be_repeated(act: str, tmp_path: Path) -> None:
    prepare, do = ACTS[act]
    whole = Spool.open(tmp_path / "whole", min_free_bytes=0)
    prepare(whole)
    do(whole)
    for fatal in count():
        killed = Spool.open(tmp_path / str(fatal), min_free_bytes=0)
        prepare(killed)
        before = {content for _, content in contents(killed)}
        if not is_killed_in(do, killed, fatal):
            break
        spool = Spool.open(killed.root, min_free_bytes=0)
        spool.recover()
        assert {content for _, content in contents(spool)} >= before, fatal
        do(spool)
        assert contents(spool) == contents(whole), fatal
        assert not list((spool.root / "receiving").glob("*/*")), fatal
    assert fatal > 1
