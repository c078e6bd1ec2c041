"""What the node relies on of the workflow engine: each of these fails when a new version of it does otherwise."""

import inspect
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from engine_probe import FEW, ONE_EACH, PROBE, URGENT, Probe

from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.queues import Queue
from iscl_node.pipeline.engine.relied_on import RELIED_ON
from iscl_node.pipeline.engine.words import (
    UnknownWorkflowError,
    enqueue,
    find,
    send_message,
    under_way,
    wake,
)

PATIENCE_SECONDS = 60
A_DAY = 86_400.0


def test_each_has_its_test() -> None:
    tests = {name.removeprefix("test_") for name, _ in inspect.getmembers(sys.modules[__name__], inspect.isfunction)}
    assert set(RELIED_ON) <= tests


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'workflows.sqlite'}"


def start(url: str, worker: str = "node-1", version: str = "1") -> None:
    launch_engine(url, worker, version, [FEW, ONE_EACH, URGENT])


@pytest.fixture
def engine(url: str) -> Iterator[Probe]:
    start(url)
    yield Probe.fresh()
    PROBE.go_on.set()
    stop_engine(PATIENCE_SECONDS)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, PROBE.calls
        time.sleep(0.02)


def killed(url: str, tmp_path: Path, act: str) -> list[str]:
    """The notes of another process that did this and was killed."""
    notes = tmp_path / "notes"
    program = [sys.executable, str(Path(__file__).with_name("engine_probe.py")), url, str(notes), act]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        os.kill(process.pid, signal.SIGKILL)
    return notes.read_text().split() if notes.exists() else []


def test_who_listens_to_no_queue_takes_no_work(url: str) -> None:
    launch_engine(url, "receiver", "1", [FEW, ONE_EACH, URGENT], is_working=False)
    probe = Probe.fresh()
    enqueue(FEW, "a", PROBE.note, "a")
    enqueue(ONE_EACH, "b", PROBE.note, "b", partition="one")
    time.sleep(3)  # several looks into a queue
    assert [each.identity for each in under_way()] == ["a", "b"]
    stop_engine(PATIENCE_SECONDS)
    start(url, "worker")
    wait_until(lambda: sorted(probe.calls) == ["a", "b"])
    stop_engine(PATIENCE_SECONDS)


def test_an_identity_begins_once(engine: Probe) -> None:
    for _ in range(2):
        enqueue(FEW, "a", PROBE.note, "a")
    wait_until(lambda: not under_way())
    enqueue(FEW, "a", PROBE.note, "a")
    enqueue(FEW, "b", PROBE.note, "b")
    wait_until(lambda: engine.calls == ["a", "b"])


def test_a_recorded_step_is_not_done_again(url: str, tmp_path: Path) -> None:
    assert killed(url, tmp_path, "two steps") == ["first", "second"]
    probe = Probe.fresh()
    probe.go_on.set()
    start(url)
    wait_until(lambda: probe.calls == ["second"])
    wait_until(lambda: not under_way())
    stop_engine(PATIENCE_SECONDS)


def test_a_delay_outlasts_a_kill(url: str, tmp_path: Path) -> None:
    killed(url, tmp_path, "delayed")
    probe = Probe.fresh()
    start(url)
    (work,) = under_way(["note"])
    assert work.due is not None
    wait_until(lambda: probe.calls == ["late"])
    assert time.time() >= work.due
    stop_engine(PATIENCE_SECONDS)


def test_a_delay_can_be_moved(engine: Probe) -> None:
    enqueue(FEW, "a", PROBE.note, "a", delay_seconds=A_DAY)
    moved = time.time()
    wake("a", 1.5)
    (work,) = under_way()
    assert work.due is not None
    assert work.due >= moved + 1.4
    wait_until(lambda: engine.calls == ["a"])
    assert time.time() >= work.due


def test_a_delayed_workflow_can_be_woken(engine: Probe) -> None:
    enqueue(FEW, "a", PROBE.note, "a", delay_seconds=A_DAY)
    assert [(each.identity, each.arguments) for each in under_way()] == [("a", ("a",))]
    wake("a")
    wait_until(lambda: engine.calls == ["a"])
    wait_until(lambda: not under_way())
    wake("a")
    wake("nothing")


def test_a_message_may_come_first(url: str, tmp_path: Path) -> None:
    killed(url, tmp_path, "message")
    probe = Probe.fresh()
    start(url)
    wake("a")
    wait_until(lambda: probe.calls == ["{'some': 'news'}"])
    stop_engine(PATIENCE_SECONDS)


def test_a_message_with_a_key_comes_once(engine: Probe) -> None:
    enqueue(FEW, "a", PROBE.read_twice, delay_seconds=A_DAY)
    for value in ("one", "two"):
        send_message("a", "news", value, key="same")
    wake("a")
    wait_until(lambda: engine.calls == ["one", "None"])


def test_an_unknown_workflow_takes_no_message(engine: Probe) -> None:
    with pytest.raises(UnknownWorkflowError):
        send_message("nothing", "news", "some")
    assert find("nothing") is None


def test_the_lower_priority_number_goes_first(engine: Probe) -> None:
    enqueue(URGENT, "first", PROBE.wait, "first", priority=1)
    wait_until(lambda: engine.calls == ["first"])
    for priority in (3, 2, 1):
        enqueue(URGENT, f"{priority}", PROBE.note, f"{priority}", priority=priority)
    engine.go_on.set()
    wait_until(lambda: engine.calls == ["first", "1", "2", "3"])


def test_a_full_partition_holds_up_no_other(engine: Probe) -> None:
    for partition, name in (("x", "a"), ("x", "b"), ("y", "c")):
        enqueue(ONE_EACH, name, PROBE.wait, name, partition=partition)
    wait_until(lambda: len(engine.calls) == 2)
    assert sorted(engine.calls) in (["a", "c"], ["b", "c"])
    engine.go_on.set()
    wait_until(lambda: sorted(engine.calls) == ["a", "b", "c"])


def test_another_version_does_not_run(url: str) -> None:
    start(url, version="1")
    probe = Probe.fresh()
    enqueue(FEW, "old", PROBE.note, "old", delay_seconds=A_DAY)
    stop_engine(PATIENCE_SECONDS)
    start(url, version="2")
    assert under_way() == []
    wake("old")
    enqueue(FEW, "new", PROBE.note, "new", delay_seconds=2)
    wait_until(lambda: "new" in probe.calls)
    assert probe.calls == ["new"]
    stop_engine(PATIENCE_SECONDS)


def left_by_another(url: str, tmp_path: Path) -> Probe:
    killed(url, tmp_path, "two steps")
    probe = Probe.fresh()
    probe.go_on.set()
    start(url, worker="node-2")
    enqueue(FEW, "mine", PROBE.note, "mine")
    wait_until(lambda: probe.calls == ["mine"] and not [each for each in under_way() if each.identity == "mine"])
    return probe


def test_another_worker_s_workflows_are_left_alone(url: str, tmp_path: Path) -> None:
    left_by_another(url, tmp_path)
    (theirs,) = DBOS.list_workflows(status="PENDING")
    assert (theirs.workflow_id, theirs.executor_id) == ("two", "node-1")
    stop_engine(PATIENCE_SECONDS)


def test_another_worker_s_workflow_can_be_resumed(url: str, tmp_path: Path) -> None:
    probe = left_by_another(url, tmp_path)
    (theirs,) = DBOS.list_workflows(status="PENDING", executor_id="node-1")
    DBOS.resume_workflow(theirs.workflow_id, queue_name=theirs.queue_name)
    wait_until(lambda: probe.calls == ["mine", "second"])
    stop_engine(PATIENCE_SECONDS)


def test_the_last_to_launch_sets_a_queue_s_limits(url: str) -> None:
    probe = Probe.fresh()
    launch_engine(url, "node-1", "1", [Queue("shared", worker_concurrency=1)])
    Queue("shared", worker_concurrency=4).register()  # as another process does when it is launched
    for name in ("a", "b", "c"):
        enqueue(Queue("shared"), name, PROBE.wait, name)
    wait_until(lambda: sorted(probe.calls) == ["a", "b", "c"])
    probe.go_on.set()
    stop_engine(PATIENCE_SECONDS)


def test_a_damaged_file_is_told(url: str, tmp_path: Path) -> None:
    """By SQLite itself; what is made of it, see `test_damaged_database`."""
    file = tmp_path / "workflows.sqlite"
    file.write_bytes(b"no database" * 500)
    with pytest.raises(sqlite3.DatabaseError) as told:
        sqlite3.connect(file).execute("PRAGMA quick_check")
    assert told.value.sqlite_errorcode == sqlite3.SQLITE_NOTADB


def test_it_tells_which_workflows_run_here(engine: Probe) -> None:
    enqueue(FEW, "a", PROBE.wait, "a")
    wait_until(lambda: engine.calls == ["a"])
    assert "a" in _get_dbos_instance()._active_workflows_set.activeList()
    assert isinstance(engine.go_on, Event)


def test_a_queue_is_looked_into_by_two_methods(engine: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll asks both, in this order; without the second it takes nothing."""
    database, asked = _get_dbos_instance()._sys_db, list[str]()
    get_queue = database.get_queue
    monkeypatch.setattr(database, "get_queue", lambda name: asked.append("get_queue") or get_queue(name))
    monkeypatch.setattr(database, "dequeue_scopes", lambda name: asked.append("dequeue_scopes") or [])
    enqueue(FEW, "a", PROBE.note, "a")
    wait_until(lambda: asked.count("dequeue_scopes") >= 10)
    assert asked.count("get_queue") >= 5
    assert engine.calls == []
    monkeypatch.undo()
    wait_until(lambda: engine.calls == ["a"])
