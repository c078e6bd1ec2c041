"""Queues that are looked into when something changed in the database, and not twice a second."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dbos._dbos import _get_dbos_instance
from engine_probe import FEW, ONE_EACH, PROBE, Probe
from test_relied_on import engine as engine
from test_relied_on import url as url
from test_relied_on import wait_until

from iscl_node.pipeline.engine import polling
from iscl_node.pipeline.engine.polling import Changes, QuietPolls
from iscl_node.pipeline.engine.words import enqueue, under_way, wake


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a #?% base.sqlite"
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE facts (fact)")
    return path


@pytest.fixture
def changes(database: Path) -> Iterator[Changes]:
    changes = Changes(database)
    yield changes
    changes.close()


def write(database: Path) -> None:
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("INSERT INTO facts VALUES (1)")


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_it_tells_what_anybody_writes(database: Path, changes: Changes, mode: str) -> None:
    with closing(sqlite3.connect(database)) as opened:
        opened.execute(f"PRAGMA journal_mode={mode}")
    first = changes.version()
    assert first is not None
    assert changes.version() == first
    write(database)
    assert changes.version() != first


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert Changes(tmp_path / "none.sqlite").version() is None
    assert list(tmp_path.iterdir()) == []


class Database:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_open = True

    def get_queue(self, name: str, **_: object) -> str:
        self.asked.append("limits")
        return name

    def dequeue_scopes(self, _: str) -> list[None]:
        self.asked.append("work")
        return [None]

    def destroy(self) -> None:
        self.is_open = False


def test_what_did_not_change_is_looked_into_once(
    database: Path, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, running = Database(), dict.fromkeys(("a", "b"), 0)
    polls = QuietPolls(changes, real, running.__getitem__)  # type: ignore[arg-type]

    def poll(queue: str = "a") -> list[str]:
        real.asked.clear()
        polls.get_queue(queue)
        polls.dequeue_scopes(queue)
        return list(real.asked)

    assert poll() == ["limits", "work"]
    poll()
    assert poll() == []
    assert poll("b") == ["limits", "work"]
    write(database)
    assert poll() == ["limits", "work"]
    assert poll() == []
    running["a"] = 1  # makes room when it ends, a moment after that is written
    assert poll() == ["work"]
    assert poll() == ["work"]
    running["a"] = 0
    assert poll() == ["work"]
    assert poll() == []
    changes.note_fault()
    assert poll() == ["limits", "work"]
    assert poll() == []
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    assert poll() == ["limits", "work"]
    real.asked.clear()
    assert polls.get_queue("a", client_system_database=None) == "a"
    assert real.asked == ["limits"]
    polls.destroy()
    assert not real.is_open


def test_a_database_that_tells_nothing_is_looked_into_at_each_poll(tmp_path: Path) -> None:
    real = Database()
    polls = QuietPolls(Changes(tmp_path / "none.sqlite"), real, lambda _: 0)  # type: ignore[arg-type]
    for _ in range(3):
        polls.dequeue_scopes("a")
    assert real.asked == ["work"] * 3


def test_work_that_comes_later_is_taken_at_the_next_poll(engine: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the engine is asked for it: nothing here waits for the look that comes every few seconds."""
    monkeypatch.setattr(polling, "_LOOK_SECONDS", 1e6)
    enqueue(FEW, "a", PROBE.note, "a")
    wait_until(lambda: engine.calls == ["a"])
    time.sleep(2)  # some polls that find nothing
    enqueue(FEW, "b", PROBE.note, "b")
    enqueue(ONE_EACH, "c", PROBE.note, "c", partition="one")
    enqueue(FEW, "d", PROBE.note, "d", delay_seconds=1)
    enqueue(FEW, "e", PROBE.note, "e", delay_seconds=86_400)
    wait_until(lambda: sorted(engine.calls) == ["a", "b", "c", "d"])
    wake("e")
    wait_until(lambda: not under_way())


def test_many_that_wait_for_room_in_a_queue_all_run(engine: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_LOOK_SECONDS", 1e6)
    for number in range(30):
        enqueue(FEW, f"a{number}", PROBE.note, f"a{number}")
        enqueue(ONE_EACH, f"b{number}", PROBE.note, f"b{number}", partition=f"p{number % 3}")
    wait_until(lambda: len(engine.calls) == 60 and not under_way())
    assert _get_dbos_instance()._active_workflows_set.count_for_queue(FEW.name) == 0
