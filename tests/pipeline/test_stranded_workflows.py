"""Workflows that nobody goes on with are gone on with, and no others."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import dbos._queue
import pytest
from dbos import DBOS
from failing_sqlite import Refusals, refusing
from sqlalchemy.exc import OperationalError
from test_workflow import BATCH, PATIENCE_SECONDS, WHOLE_WAY, ScriptedSteps, the_workflow

from iscl_node.errors import RetryLaterError
from iscl_node.pipeline import workflow
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.stranded_workflows import StrandedWorkflows
from iscl_node.pipeline.workflow import QUEUES, STEP_ORDER_VERSION, SeriesWorkflow

CLOSED = [BATCH.workflow_id]


@pytest.fixture
def series_workflow(monkeypatch: pytest.MonkeyPatch) -> SeriesWorkflow:
    monkeypatch.setattr(the_workflow(), "_shutdown", Shutdown())
    return the_workflow()


@pytest.fixture
def steps(series_workflow: SeriesWorkflow, monkeypatch: pytest.MonkeyPatch) -> ScriptedSteps:
    scripted = ScriptedSteps()
    monkeypatch.setattr(series_workflow, "_steps", scripted)
    return scripted


@pytest.fixture
def stranded() -> StrandedWorkflows:
    return StrandedWorkflows(lambda: CLOSED, "node-1")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[None]:
    launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", STEP_ORDER_VERSION, QUEUES)
    yield
    stop_engine(PATIENCE_SECONDS)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def failing(until: Event, work: Callable[..., object], tried: Event | None = None) -> Callable[..., object]:
    def fail(*arguments: object, **named: object) -> object:
        if not until.is_set():
            (tried or Event()).set()
            raise RuntimeError("the engine failed")
        return work(*arguments, **named)

    return fail


def failed() -> int:
    return len(DBOS.list_workflows(status="ERROR"))


@pytest.mark.fault(
    "machine",
    "the engine fails while deliveries tell their ends, or while the end of a batch is begun",
    "a chore has it go on there; the batch comes to its end without a restart, and nothing is sent again",
)
@pytest.mark.parametrize(("name", "fails"), [("say", 2), ("all_said", 2)])
def test_workflows_that_failed_go_on_behind_their_last_step(
    engine: None,
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    stranded: StrandedWorkflows,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fails: int,
) -> None:
    well = Event()
    monkeypatch.setattr(workflow, name, failing(well, getattr(workflow, name)))
    series_workflow.enqueue(BATCH)
    wait_until(lambda: failed() >= fails)
    wait_until(lambda: DBOS.list_workflows(status=["PENDING", "ENQUEUED"]) == [])
    assert Counter(steps.calls) == Counter(WHOLE_WAY[:-1])
    well.set()
    assert stranded.resume() >= fails
    steps.wait_for(WHOLE_WAY)
    wait_until(lambda: len(DBOS.list_workflows(status="SUCCESS")) == 4)
    assert Counter(steps.calls) == Counter(WHOLE_WAY)
    assert stranded.resume() == 0


def test_what_failed_at_the_end_of_a_batch_is_left_alone(
    engine: None, series_workflow: SeriesWorkflow, steps: ScriptedSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "say", failing(Event(), workflow.say))
    series_workflow.enqueue(BATCH)
    wait_until(lambda: failed() == 2)
    assert StrandedWorkflows(list, "node-1").resume() == 0
    assert failed() == 2
    assert "release" not in steps.calls


@pytest.mark.fault(
    "machine",
    "the workflow database refuses the record of a step with an error that does not pass, such as damage",
    "workflows fail, and a chore has them go on; the batch comes to its end, and is not set aside",
)
def test_a_batch_is_not_blamed_for_its_database(
    tmp_path: Path, series_workflow: SeriesWorkflow, steps: ScriptedSteps, stranded: StrandedWorkflows
) -> None:
    refusals = Refusals("database disk image is malformed", sqlite3.SQLITE_CORRUPT)
    with refusing(refusals):
        launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", STEP_ORDER_VERSION, QUEUES)
        refusals.at_first, refusals.steps = True, {"judge", "send"}
        deadline = time.monotonic() + 5 * PATIENCE_SECONDS  # each of the many refusals costs the engine a new start
        try:
            while not ("release" in steps.calls and DBOS.list_workflows(name="end", status="SUCCESS")):
                assert time.monotonic() < deadline
                with suppress(RetryLaterError, OperationalError):
                    series_workflow.enqueue(BATCH)
                    stranded.resume()
                time.sleep(0.1)
        finally:
            stop_engine(PATIENCE_SECONDS)
    assert set(steps.calls) == set(WHOLE_WAY)
    assert len(refusals.places) > len({"judge", "send"})


@pytest.mark.fault(
    "machine",
    "a workflow is claimed from its queue, and the answer to the claim is lost",
    "a chore has it begun; what is in hand is left alone",
)
def test_workflows_that_nobody_has_in_hand_are_begun(
    engine: None,
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    stranded: StrandedWorkflows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    well, tried = Event(), Event()
    lost = failing(well, dbos._queue.execute_dequeued_workflow, tried)
    monkeypatch.setattr("dbos._queue.execute_dequeued_workflow", lost)
    going_on = Event()
    steps.before_check = lambda: going_on.wait(PATIENCE_SECONDS) and None
    series_workflow.enqueue(BATCH)
    assert tried.wait(PATIENCE_SECONDS)
    well.set()
    assert stranded.resume() == 0  # it may be about to begin
    assert stranded.resume() == 1
    wait_until(lambda: steps.calls == ["check"])
    assert [stranded.resume() for _ in range(3)] == [0, 0, 0]
    going_on.set()
    steps.wait_for(WHOLE_WAY)
    assert Counter(steps.calls) == Counter(WHOLE_WAY)


def test_a_database_that_refuses_is_asked_again(
    tmp_path: Path, series_workflow: SeriesWorkflow, stranded: StrandedWorkflows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    monkeypatch.setattr("iscl_node.pipeline.engine.stranded_workflows.DBOS.list_workflows", refuse)
    with pytest.raises(RetryLaterError, match="resumes nothing: OperationalError"):
        stranded.resume()
