"""How long the node has run, over restarts and whatever a kill left."""

import pytest

from iscl_node.store.records import running_time
from iscl_node.store.records.running_time import RUNNING_TIME_FILE, RunningTime
from iscl_node.store.spool import Spool


def test_it_counts_on_after_a_restart_and_not_while_the_node_is_off(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [500.0]
    monkeypatch.setattr(running_time.time, "monotonic", lambda: now[0])
    first = RunningTime(spool.root)
    now[0] += 60
    first.write_down()
    now[0] += 1_000  # off
    second = RunningTime(spool.root)
    now[0] += 5
    assert second.seconds() == 65


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seconds": "x"}'])
def test_what_cannot_be_read_counts_from_zero(spool: Spool, content: bytes) -> None:
    (spool.root / RUNNING_TIME_FILE).write_bytes(content)
    assert RunningTime(spool.root).seconds() < 60
