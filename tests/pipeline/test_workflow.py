"""The order of the steps in the real engine: the ends of a batch, and a batch that was begun in an earlier order."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from iscl_node.domain import Batch
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline import ended_workflows, workflow
from iscl_node.pipeline.ended_workflows import forget_ended
from iscl_node.pipeline.shutdown import NodeStopping, Shutdown
from iscl_node.pipeline.workflow import SeriesWorkflow, launch_engine, stop_engine

BATCH = Batch("1.2.3", "20260301T120000.000000Z")
PATIENCE_SECONDS = 60
WHOLE_WAY = [
    "check",
    "derive all ['2.25.1', '2.25.2'] 1.dcm",
    "judge all ['1.dcm']",
    "evidence all ['1.dcm']",
    *("send pacs 2.25.1 1", "send vault 2.25.1 1", "send pacs 2.25.2 1", "send vault 2.25.2 1"),
    *("send pacs 2.25.3 2", "send vault 2.25.3 2"),
    "release",
]


class ScriptedSteps:
    """Steps that note that they were called; the check does first what it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.before_check: Callable[[], None] = lambda: None
        self.peers: tuple[str, ...] = ("pacs", "vault")
        self.stops_at = ""
        self.refused = ""

    def check(self, batch: Batch) -> tuple[str, list[str], list[str]]:
        self.calls.append("check")
        self.before_check()
        return "all", ["2.25.1", "2.25.2"], ["1.dcm"]

    def evidence(self, _batch: Batch, rule_name: str, files: list[str]) -> list[tuple[str, int]]:
        self.calls.append(f"evidence {rule_name} {files}")
        return [("2.25.3", 2)]

    def destinations(self, _rule_name: str) -> tuple[str, ...]:
        return self.peers

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda _batch, *arguments: self.note(" ".join([name, *map(str, arguments)]))

    def note(self, call: str) -> None:
        self.calls.append(call)
        if call == self.stops_at:
            raise NodeStopping
        if call == self.refused:
            raise QuarantineSeriesError("no room for this")

    def raising(self, error: BaseException) -> None:
        def fail() -> None:
            raise error

        self.before_check = fail

    def wait_for(self, calls: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.calls != calls:
            assert time.monotonic() < deadline, self.calls
            time.sleep(0.05)


@pytest.fixture(scope="module")
def series_workflow() -> SeriesWorkflow:
    """The one of this process: the engine knows it by its name."""
    return SeriesWorkflow(ScriptedSteps(), Shutdown(), Metrics(CollectorRegistry()), 0.01, 0.01)  # type: ignore[arg-type]


@pytest.fixture
def steps(series_workflow: SeriesWorkflow, monkeypatch: pytest.MonkeyPatch) -> ScriptedSteps:
    scripted = ScriptedSteps()
    monkeypatch.setattr(series_workflow, "_steps", scripted)
    return scripted


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[], None]]:
    yield lambda: launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", 2)
    stop_engine(PATIENCE_SECONDS)


def test_every_derived_series_goes_to_every_destination(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None]
) -> None:
    launch()
    for _ in range(2):  # the second has no effect
        series_workflow.enqueue(BATCH)
    steps.wait_for(WHOLE_WAY)


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (IgnoreSeriesError("a localizer"), "ignore a localizer"),
        (QuarantineSeriesError("no rule matches"), "quarantine no rule matches"),
        (KeyError("unforeseen"), "quarantine unforeseen fault: KeyError; the log says where"),
    ],
)
def test_a_batch_that_is_not_processed_has_its_end(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None], error: Exception, end: str
) -> None:
    steps.raising(error)
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for(["check", end])


@pytest.mark.fault(
    "delivery", "one of several destinations refuses for good", "the others get everything; then quarantine"
)
def test_a_destination_that_refuses_keeps_nothing_from_the_others(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None]
) -> None:
    steps.refused = "send pacs 2.25.2 1"
    launch()
    series_workflow.enqueue(BATCH)
    sent_no_more = ("send pacs 2.25.3 2", "release")
    steps.wait_for([*(call for call in WHOLE_WAY if call not in sent_no_more), "quarantine no room for this"])


@pytest.mark.fault("processing", "a step cannot be done now", "it is done again, and the batch comes to its end")
def test_what_asks_for_a_later_try_is_tried_again(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None]
) -> None:
    def once() -> None:
        steps.before_check = lambda: None
        raise RetryLaterError("not now")

    steps.before_check = once
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for(["check", *WHOLE_WAY])


@pytest.mark.fault(
    "machine",
    "an upgrade changes the order of the steps while a batch is in hand",
    "the batch is begun anew, and only once",
)
def test_a_batch_begun_in_an_earlier_order_is_begun_anew(
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    launch: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps.raising(NodeStopping())
    monkeypatch.setattr(workflow, "STEP_ORDER_VERSION", "earlier")
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for(["check"])
    stop_engine(PATIENCE_SECONDS)

    monkeypatch.undo()
    monkeypatch.setattr(series_workflow, "_steps", again := ScriptedSteps())
    launch()
    series_workflow.enqueue(BATCH)
    again.wait_for(WHOLE_WAY)
    time.sleep(1)  # two polls of the queue: the earlier workflow does not wake up
    assert again.calls == WHOLE_WAY


@pytest.mark.fault(
    "delivery",
    "`send_to` is changed while a batch is being sent",
    "the batch goes where it was to go, and no finished step is done again",
)
def test_a_batch_goes_where_it_was_to_go_when_it_was_begun(
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    launch: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Finished steps are known by their number: with other destinations one would be taken for another."""
    steps.stops_at = "send vault 2.25.1 1"
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for(WHOLE_WAY[: WHOLE_WAY.index(steps.stops_at) + 1])
    stop_engine(PATIENCE_SECONDS)

    monkeypatch.setattr(series_workflow, "_steps", again := ScriptedSteps())
    again.peers = ("vault",)
    launch()
    again.wait_for(WHOLE_WAY[WHOLE_WAY.index(steps.stops_at) :])


@pytest.mark.fault(
    "machine",
    "the SQLite workflow database is locked while a batch is enqueued",
    "the batch waits, and comes to its end when the lock is gone",
)
def test_a_locked_database_holds_a_batch_up_and_loses_nothing(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None], tmp_path: Path
) -> None:
    launch()
    with closing(sqlite3.connect(tmp_path / "workflows.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        enqueuing = Thread(target=series_workflow.enqueue, args=(BATCH,))
        enqueuing.start()
        enqueuing.join(1)
        assert steps.calls == []
        other.execute("ROLLBACK")
    enqueuing.join(PATIENCE_SECONDS)
    steps.wait_for(WHOLE_WAY)


@pytest.mark.long
@pytest.mark.fault(
    "machine",
    "the SQLite workflow database is locked in the middle of a step, for longer than SQLite waits",
    "the step is recorded when the lock is gone; no step is done twice",
)
def test_a_database_locked_for_long_does_not_repeat_a_step(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None], tmp_path: Path
) -> None:
    launch()
    locked = Event()
    with closing(
        sqlite3.connect(tmp_path / "workflows.sqlite", isolation_level=None, check_same_thread=False)
    ) as other:

        def lock() -> None:
            other.execute("BEGIN IMMEDIATE")
            locked.set()

        steps.before_check = lock
        series_workflow.enqueue(BATCH)
        assert locked.wait(PATIENCE_SECONDS)
        time.sleep(12)  # SQLite waits for 5 s
        assert steps.calls == ["check"]
        other.execute("ROLLBACK")
    steps.wait_for(WHOLE_WAY)


def rows(database: Path) -> dict[str, int]:
    """How many rows each of the engine's tables has for batches."""
    with closing(sqlite3.connect(database)) as opened:
        tables = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
        return {name: opened.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}


def test_workflows_that_ended_long_ago_are_forgotten_and_no_others(
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    launch: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = tmp_path / "workflows.sqlite"
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for(WHOLE_WAY)
    waiting = Event()
    steps.before_check = lambda: waiting.wait(PATIENCE_SECONDS) and None
    series_workflow.enqueue(Batch("1.2.4", BATCH.key))
    steps.wait_for([*WHOLE_WAY, "check"])
    deadline = time.monotonic() + PATIENCE_SECONDS
    monkeypatch.setattr(ended_workflows, "_AT_LEAST", timedelta(hours=1))
    assert forget_ended(0) == 0
    monkeypatch.setattr(ended_workflows, "_AT_LEAST", timedelta(0))
    assert forget_ended(3600) == 0
    before = rows(database)
    while forget_ended(0) == 0:  # its end is recorded a moment after its last step
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = rows(database)
    waiting.set()
    steps.wait_for([*WHOLE_WAY, *WHOLE_WAY])
    assert before["operation_outputs"] > left["operation_outputs"] == 0
    assert left["workflow_status"] == 1


@pytest.mark.fault("machine", "the workflow database is locked when ended workflows are deleted", "tried again later")
def test_a_database_that_refuses_to_forget_is_asked_again(
    steps: ScriptedSteps, launch: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> None:
        raise OperationalError("DELETE", {}, Exception("database is locked"))

    launch()
    monkeypatch.setattr(ended_workflows.DBOS, "list_workflows", locked)
    with pytest.raises(RetryLaterError, match="OperationalError"):
        forget_ended(0)
    assert steps.calls == []
