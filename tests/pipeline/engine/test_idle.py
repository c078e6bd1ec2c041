"""Workflows that this worker claimed and does not run are resumed, and no others."""

from threading import Event

import dbos._queue
import pytest
from engine_probe import FEW, PROBE, Probe
from test_relied_on import engine as engine
from test_relied_on import url as url
from test_relied_on import wait_until

from iscl_node.pipeline.engine.idle import IdleWorkflows
from iscl_node.pipeline.engine.words import enqueue


@pytest.mark.fault(
    "machine",
    "a workflow is claimed from its queue, and the answer to the claim is lost",
    "it is begun within two minutes; what runs is left alone",
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
