"""The order of the steps in the real engine: deliveries, the ends of a batch, and one begun in an earlier order."""

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest
from dbos import DBOS
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import OperationalError

from iscl_node.domain import Batch
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.conclude import Attempt, Next
from iscl_node.pipeline.engine import ended
from iscl_node.pipeline.engine.ended import forget_ended
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import NodeStopping, Shutdown
from iscl_node.pipeline.workflows import batch as workflow
from iscl_node.pipeline.workflows.batch import QUEUES, SeriesWorkflow
from iscl_node.pipeline.workflows.trying import Trying
from iscl_node.retry import Backoff

BATCH = Batch("1.2.3", "20260301T120000.000000Z")
PATIENCE_SECONDS = 60
MADE = ["check", "derive all ['2.25.1', '2.25.2'] 1.dcm", "judge all ['1.dcm']"]


def sent(peer: str) -> list[str]:
    """What is done at a destination, in its order."""
    return [f"send {peer}", f"ask {peer}", f"conclude {peer}"]


WHOLE_WAY = [*MADE, *sent("pacs"), *sent("vault"), "release"]

AT_DESTINATIONS = ("send", "ask", "conclude")


def by_destination(calls: list[str]) -> dict[str, list[str]]:
    """The calls, in their order, of each destination (in no order among each other) and of none."""
    return {
        peer: [call for call in calls if (call.split()[1] if call.split()[0] in AT_DESTINATIONS else "") == peer]
        for peer in ("", "pacs", "vault", "mirror")
    }


class ScriptedSteps:
    """Steps that note that they were called; the check does first what it is told to.

    In the place of what is made of a batch, and of what is done at a destination.
    """

    report_seconds = 3600.0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.before_check: Callable[[], None] = lambda: None
        self.peers: tuple[str, ...] = ("pacs", "vault")
        self.stops_at = ""
        self.refused = ""
        self.down: set[str] = set()
        self._ended: dict[Batch, dict[str, str]] = defaultdict(dict)
        self._lock = Lock()

    def making(self, _batch: Batch) -> AbstractContextManager[None]:
        return nullcontext()

    def check(self, batch: Batch) -> tuple[str, list[str], list[str]]:
        self.calls.append("check")
        self.before_check()
        return "all", ["2.25.1", "2.25.2"], ["1.dcm"]

    def planned(self, _batch: Batch) -> tuple[str, list[str], list[str]]:
        return "all", ["2.25.1", "2.25.2"], ["1.dcm"]

    def when(self, *_: object) -> tuple[int, float]:
        return 2, 0.0

    def judge(self, _batch: Batch, rule_name: str, files: list[str]) -> list[tuple[str, int]]:
        self.calls.append(f"judge {rule_name} {files}")
        return [("2.25.3", 2)]

    def destinations(self, _batch: Batch, _rule_name: str, _made: list[tuple[str, int]]) -> tuple[str, ...]:
        return self.peers

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda _batch, *arguments: self.note(" ".join([name, *map(str, arguments)]))

    def send(self, _batch: Batch, peer: str) -> None:
        if peer in self.down:
            raise RetryLaterError("down")
        self.note(f"send {peer}")

    def after_sending(self, batch: Batch, peer: str, refusal: str) -> str:
        if refusal:
            self._ended[batch][peer] = refusal
            self.settle(batch)
        return "end" if refusal else "ask"

    def ask(self, _batch: Batch, peer: str, transaction_uid: str, _since: float) -> dict[str, str]:
        self.note(f"ask {peer}")
        return {"transaction_uid": transaction_uid}

    def conclude(self, batch: Batch, peer: str, attempt: Attempt, answer: object) -> Next:
        assert attempt == Attempt(0, 1, 0)
        assert answer is not None
        self.note(f"conclude {peer}")
        self._ended[batch][peer] = ""
        return Next("end")

    def settle(self, batch: Batch) -> None:
        """As the real one: whoever sees that all have ended ends the batch, once."""
        with self._lock:
            ended = self._ended[batch]
            if ended.keys() == set(self.peers):
                refusals = [each for each in ended.values() if each]
                self._ended[batch]["released"] = ""
                self.note(f"quarantine {refusals[0]}" if refusals else "release")

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
        while by_destination(self.calls) != by_destination(calls):
            assert time.monotonic() < deadline, self.calls
            time.sleep(0.05)
        assert self.calls[-1] == calls[-1] or calls[-1].split()[0] in AT_DESTINATIONS


def scripted(series_workflow: SeriesWorkflow, monkeypatch: pytest.MonkeyPatch) -> ScriptedSteps:
    """New steps for the workflows of this process."""
    steps = ScriptedSteps()
    for place in ("_steps", "_sending", "_asking", "_concluding"):
        monkeypatch.setattr(series_workflow, place, steps)
    return steps


@cache
def the_workflow() -> SeriesWorkflow:
    """The one of this process: the engine knows it by its name."""
    metrics = Metrics(CollectorRegistry())
    parts: Any = [ScriptedSteps()] * 4
    return SeriesWorkflow(*parts, Trying(Shutdown(), metrics, Backoff(0.01, 0.01)), metrics)


@pytest.fixture
def series_workflow() -> SeriesWorkflow:
    return the_workflow()


@pytest.fixture
def steps(series_workflow: SeriesWorkflow, monkeypatch: pytest.MonkeyPatch) -> ScriptedSteps:
    return scripted(series_workflow, monkeypatch)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[], None]]:
    yield lambda: launch_engine(
        f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", workflow.STEP_ORDER_VERSION, QUEUES
    )
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
    steps.refused = "send pacs"
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for([*MADE, *sent("pacs")[:1], *sent("vault"), "quarantine no room for this"])


@pytest.mark.fault(
    "delivery",
    "one of two destinations is down for more batches than are sent at a time",
    "the other gets everything; each batch is released once, when both have it",
)
def test_a_destination_that_is_down_keeps_no_batch_from_the_others(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None]
) -> None:
    steps.down = {"pacs"}
    launch()  # two batches in hand, four deliveries for each destination
    batches = 6
    for number in range(batches):
        series_workflow.enqueue(Batch(f"1.2.{number}", BATCH.key))
    deadline = time.monotonic() + 3 * PATIENCE_SECONDS  # each batch goes through four queues
    while steps.calls.count("conclude vault") < batches:
        assert time.monotonic() < deadline, steps.calls
        time.sleep(0.05)
    assert "release" not in steps.calls

    steps.down = set()
    while steps.calls.count("release") < batches:
        assert time.monotonic() < deadline, steps.calls
        time.sleep(0.05)
    time.sleep(1)  # two polls of the queues
    assert Counter(steps.calls) == Counter(WHOLE_WAY * batches)


@pytest.mark.fault(
    "delivery",
    "of three destinations one refuses, and another is down",
    "the third gets everything; quarantine with the reason, when the one that was down has everything, too",
)
def test_a_refusal_is_the_end_of_a_batch_when_all_its_deliveries_have_ended(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None]
) -> None:
    steps.peers, steps.refused, steps.down = ("pacs", "vault", "mirror"), "send pacs", {"vault"}
    launch()
    series_workflow.enqueue(BATCH)
    before = [*MADE, *sent("pacs")[:1], *sent("mirror")]
    steps.wait_for(before)
    time.sleep(1)  # two polls of the queues
    assert Counter(steps.calls) == Counter(before)

    steps.down = set()
    steps.wait_for([*before, *sent("vault"), "quarantine no room for this"])


@pytest.mark.fault(
    "machine",
    "the node stops while it sends to several destinations",
    "the next start sends what is left to each, and nothing again",
)
@pytest.mark.parametrize("stops_at", ["send pacs", "ask vault", "conclude pacs", "release"])
def test_a_node_that_stops_at_any_point_of_the_deliveries_goes_on_there(
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    launch: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    stops_at: str,
) -> None:
    peer = stops_at.split()[1] if stops_at != "release" else ""
    way = sent(peer) if peer else []
    steps.stops_at = stops_at
    before = WHOLE_WAY if not peer else [call for call in WHOLE_WAY[:-1] if f" {peer}" not in call]
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for([*before, *(way[: way.index(stops_at) + 1] if peer else [])])
    stop_engine(PATIENCE_SECONDS)

    again = scripted(series_workflow, monkeypatch)
    again._ended[BATCH] = dict.fromkeys({"pacs", "vault"} - {peer}, "")
    launch()
    again.wait_for([*(way[way.index(stops_at) :] if peer else []), "release"])


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
    "an upgrade changes the order of the steps while a batch is under way",
    "the batch is started again, and only once",
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
    again = scripted(series_workflow, monkeypatch)
    launch()
    series_workflow.enqueue(BATCH)
    again.wait_for(WHOLE_WAY)
    time.sleep(1)  # two polls of the queue: the earlier workflow does not wake up
    assert Counter(again.calls) == Counter(WHOLE_WAY)


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
    begin = SeriesWorkflow._begin_deliveries

    def stopping(*arguments: object) -> None:
        begin(*arguments)  # type: ignore[arg-type]
        raise NodeStopping

    steps.down = {"pacs", "vault"}
    with monkeypatch.context() as patched:
        patched.setattr(SeriesWorkflow, "_begin_deliveries", stopping)
        launch()
        series_workflow.enqueue(BATCH)
        steps.wait_for(MADE)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(DBOS.list_workflows(name="delivery")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        series_workflow._trying._shutdown.request()
        stop_engine(PATIENCE_SECONDS)
        series_workflow._trying._shutdown = Shutdown()

    again = scripted(series_workflow, monkeypatch)
    launch()
    again.wait_for([*sent("pacs"), *sent("vault"), "release"])


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
    monkeypatch.setattr(ended, "_AT_LEAST", timedelta(hours=1))
    assert forget_ended(0) == 0
    monkeypatch.setattr(ended, "_AT_LEAST", timedelta(0))
    assert forget_ended(3600) == 0
    before = rows(database)
    while forget_ended(0) == 0:  # its end is recorded a moment after its last step
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = rows(database)
    waiting.set()
    steps.wait_for([*WHOLE_WAY, *WHOLE_WAY])
    assert before["operation_outputs"] > left["operation_outputs"] == 1  # the audit step of the one that goes on
    assert left["workflow_status"] == 1


@pytest.mark.fault(
    "delivery",
    "a destination is down for longer than workflows are kept",
    "no workflow of the batch is deleted before the batch has ended",
)
def test_no_workflow_of_a_batch_is_forgotten_while_a_delivery_goes_on(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgotten deliveries would never be known to have ended; forgotten, a batch would be begun anew at a restart."""
    monkeypatch.setattr(ended, "_AT_LEAST", timedelta(0))
    monkeypatch.setattr(ended, "_AT_A_TIME", 1)
    steps.down = {"vault"}
    launch()
    series_workflow.enqueue(BATCH)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(DBOS.list_workflows(status="SUCCESS")) < 2:  # the first workflow, and the delivery to pacs
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert forget_ended(0) == 0

    steps.down = set()
    steps.wait_for(WHOLE_WAY)
    while (forgotten := forget_ended(0)) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert forgotten >= 5
    while DBOS.list_workflows():
        assert time.monotonic() < deadline
        forget_ended(0)
        time.sleep(0.05)
    assert DBOS.list_workflows() == []


@pytest.mark.fault(
    "machine",
    "an upgrade changes the order of the steps while batches are under way",
    "the workflows of the version before, which never run again, are deleted after the retention time",
)
@pytest.mark.parametrize(("worker", "left"), [(None, 0), ("node-1", 0), ("node-2", 1)])
def test_workflows_of_an_earlier_version_are_deleted(
    steps: ScriptedSteps,
    series_workflow: SeriesWorkflow,
    tmp_path: Path,
    launch: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    worker: str | None,
    left: int,
) -> None:
    monkeypatch.setattr(ended, "_AT_LEAST", timedelta(0))
    steps.raising(NodeStopping())
    launch()
    series_workflow.enqueue(BATCH)
    steps.wait_for(["check"])
    assert forget_ended(0) == 0
    stop_engine(PATIENCE_SECONDS)
    launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", "another", QUEUES)
    assert forget_ended(3600, worker) == 0
    forget_ended(0, worker)
    assert len(DBOS.list_workflows()) == left


@pytest.mark.fault("machine", "the workflow database is locked when ended workflows are deleted", "tried again later")
def test_a_database_that_refuses_to_forget_is_asked_again(
    steps: ScriptedSteps, launch: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> None:
        raise OperationalError("DELETE", {}, Exception("database is locked"))

    launch()
    monkeypatch.setattr(ended.DBOS, "list_workflows", locked)
    with pytest.raises(RetryLaterError, match="OperationalError"):
        forget_ended(0)
    assert steps.calls == []
