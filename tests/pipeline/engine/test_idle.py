"""Workflows that this worker claimed and does not run are resumed, and no others."""

from pathlib import Path
from threading import Event

import dbos._queue
import pytest
from engine_probe import FEW, PROBE, Probe
from test_relied_on import PATIENCE_SECONDS, left_by_another, wait_until
from test_relied_on import engine as engine
from test_relied_on import url as url

from iscl_node.pipeline.engine.idle import IdleWorkflows
from iscl_node.pipeline.engine.launch import stop_engine
from iscl_node.pipeline.engine.words import enqueue


@pytest.mark.fault(
    "machine",
    "a workflow is claimed from its queue, and the answer to the claim is lost",
    "it is started within two minutes; what runs is left alone",
)
def test_workflows_that_nobody_runs_are_begun(engine: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    well, tried = Event(), Event()
    execute = dbos._queue.execute_dequeued_workflow

    def lost(*arguments: object, **named: object) -> object:
        if not well.is_set():
            tried.set()
            raise RuntimeError("the engine failed")
        return execute(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("dbos._queue.execute_dequeued_workflow", lost)
    enqueue(FEW, "a", PROBE.wait, "a")
    assert tried.wait(60)
    well.set()
    idle = IdleWorkflows("node-1")
    assert idle.resume() == 0  # it may be about to begin
    assert idle.resume() == 1
    wait_until(lambda: engine.calls == ["a"])
    assert [idle.resume() for _ in range(3)] == [0, 0, 0]
    assert IdleWorkflows("node-2").resume() == 0
    engine.go_on.set()


@pytest.mark.fault(
    "machine",
    "a node with a SQLite database is given another `worker_name` while series are under way",
    "it goes on with them within two minutes",
)
def test_a_renamed_worker_goes_on(url: str, tmp_path: Path) -> None:
    probe = left_by_another(url, tmp_path)
    idle, shared = IdleWorkflows(None), IdleWorkflows("node-2")
    assert [idle.resume(), shared.resume(), shared.resume(), idle.resume()] == [0, 0, 0, 1]
    wait_until(lambda: probe.calls == ["mine", "second"])
    stop_engine(PATIENCE_SECONDS)
