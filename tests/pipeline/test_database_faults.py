"""The workflow database refuses, at every place: the batch comes to its end, and no step is done twice."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import pytest
from database_errors import stop_listening
from dbos import DBOS
from failing_sqlite import Refusals, refusing, told_faults, with_pragma, without_long_waits
from sqlalchemy.exc import OperationalError
from test_workflow import BATCH, PATIENCE_SECONDS, WHOLE_WAY, ScriptedSteps, scripted, the_workflow

from iscl_node.domain import Batch
from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.pipeline.engine.database_faults import DatabaseFaults, reason
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.workflows.batch import QUEUES, STEP_ORDER_VERSION, SeriesWorkflow

FULL = ("database or disk is full", sqlite3.SQLITE_FULL)
FAULTS = {
    "full": FULL,
    "no file": ("unable to open database file", sqlite3.SQLITE_CANTOPEN),
    "i/o": ("disk I/O error", sqlite3.SQLITE_IOERR | 3 << 8),  # an extended code: SQLITE_IOERR_WRITE
    "read-only": ("attempt to write a readonly database", sqlite3.SQLITE_READONLY),
    "locked": ("database is locked", sqlite3.SQLITE_BUSY),
}


@pytest.fixture
def series_workflow(monkeypatch: pytest.MonkeyPatch) -> SeriesWorkflow:
    monkeypatch.setattr(the_workflow()._trying, "_shutdown", Shutdown())
    return the_workflow()


@pytest.fixture
def steps(series_workflow: SeriesWorkflow, monkeypatch: pytest.MonkeyPatch) -> ScriptedSteps:
    without_long_waits(monkeypatch)
    return scripted(series_workflow, monkeypatch)


@pytest.fixture
def launch(series_workflow: SeriesWorkflow, tmp_path: Path) -> Iterator[Callable[[], None]]:
    faults = DatabaseFaults(series_workflow._trying._shutdown)
    faults.listen()
    yield lambda: launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", STEP_ORDER_VERSION, QUEUES)
    stop_engine(PATIENCE_SECONDS)
    stop_listening(faults)


def enqueue(series_workflow: SeriesWorkflow, batch: Batch = BATCH) -> None:
    """As the closer does: again, until the database takes it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return series_workflow.enqueue(batch)
        except RetryLaterError:
            assert time.monotonic() < deadline


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def all_ended() -> bool:
    return all(each.status == "SUCCESS" for each in DBOS.list_workflows())


@pytest.mark.fault(
    "machine",
    "each write of the SQLite workflow database fails at first: disk full, I/O error, read-only, no room for the "
    "journal, locked",
    "it is done again until it succeeds; the batch comes to its end, and no step is done twice",
)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_write_that_the_database_refuses_is_done_again(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None], fault: str
) -> None:
    refusals = Refusals(*FAULTS[fault])
    with refusing(refusals):
        launch()
        refusals.at_first = True
        enqueue(series_workflow)
        steps.wait_for(WHOLE_WAY)
        wait_until(all_ended)
    assert Counter(steps.calls) == Counter(WHOLE_WAY)
    tables = ("workflow_status", "operation_outputs", "notifications", "workflow_output")
    for written in (*(f"INSERT INTO main.{table}" for table in tables), "UPDATE main.workflow_status", "COMMIT after"):
        assert any(place.startswith(written) for place in refusals.places), written


@pytest.mark.fault(
    "machine",
    "the disk under the SQLite workflow database is full while batches come and go, and has space again later",
    "no batch is lost, quarantined or sent twice; each comes to its end without a restart",
)
def test_batches_wait_for_a_disk_that_is_full(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None]
) -> None:
    """With SQLite's own error: no further page is given to the file."""
    pages = 1  # as many as there are
    batches = [Batch(f"1.2.{number}", BATCH.key) for number in range(4)]
    launch()
    enqueue(series_workflow, batches[0])
    wait_until(lambda: "check" in steps.calls)
    with with_pragma(lambda: f"max_page_count={pages}"), told_faults() as told:
        for batch in batches[1:]:
            with suppress(RetryLaterError):
                series_workflow.enqueue(batch)
        wait_until(lambda: len(told) > 4)
        done = Counter(steps.calls)
        pages = 2**31
        for batch in batches:
            enqueue(series_workflow, batch)
        wait_until(lambda: len(DBOS.list_workflows(status="SUCCESS")) == 8 * len(batches))
    assert set(told) == {"database or disk is full"}
    assert done["release"] < len(batches)
    assert Counter(steps.calls) == Counter(WHOLE_WAY * len(batches))


@pytest.mark.fault(
    "machine",
    "SIGTERM while the disk under the workflow database is full",
    "the node stops; the next start, with space again, brings the batch to its end",
)
def test_a_node_stops_though_its_database_is_full(
    series_workflow: SeriesWorkflow, steps: ScriptedSteps, launch: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(*FULL)
    with refusing(refusals):
        launch()

        def fill() -> None:
            refusals.always = True

        steps.before_check = fill
        series_workflow.enqueue(BATCH)
        wait_until(lambda: len(refusals.places) > 2)
        series_workflow._trying._shutdown.request()
        started = time.monotonic()
        stop_engine(PATIENCE_SECONDS)
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
    assert steps.calls == ["check"]

    again = scripted(series_workflow, monkeypatch)
    series_workflow._trying._shutdown._stopping.clear()
    launch()
    again.wait_for(WHOLE_WAY)


@pytest.mark.fault(
    "machine",
    "the SQLite workflow database is locked for readers and writers, for longer than SQLite waits, while a batch is "
    "enqueued, a step is recorded, deliveries are started or end, and the batch ends",
    "the engine waits for the lock to go; the batch comes to its end, and no step is done twice",
)
@pytest.mark.parametrize("locked_at", ["enqueue", "check", WHOLE_WAY[3], "send vault", "release"])
def test_a_lock_at_any_place_holds_up_and_loses_nothing(
    series_workflow: SeriesWorkflow,
    steps: ScriptedSteps,
    launch: Callable[[], None],
    tmp_path: Path,
    locked_at: str,
) -> None:
    launch()
    with closing(
        sqlite3.connect(tmp_path / "workflows.sqlite", isolation_level=None, check_same_thread=False, timeout=30)
    ) as other:

        def unlock() -> None:
            wait_until(lambda: len(told) > 2)
            other.execute("ROLLBACK")

        class Locking(list[str]):
            def append(self, call: str) -> None:
                super().append(call)
                if call == locked_at:
                    other.execute("BEGIN EXCLUSIVE")
                    Thread(target=unlock).start()

        steps.calls = Locking()
        with with_pragma(lambda: "busy_timeout=100"), told_faults() as told:
            steps.calls.append("enqueue")
            enqueue(series_workflow)
            steps.wait_for(["enqueue", *WHOLE_WAY])
            wait_until(all_ended)
    assert set(told) == {"database is locked"}
    assert Counter(steps.calls) == Counter(["enqueue", *WHOLE_WAY])


@pytest.mark.fault(
    "machine",
    "the workflow database cannot be used at the start",
    "an error that says why, with no word of its password",
)
def test_a_database_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="database_url: unable to open database file"):
        launch_engine(f"sqlite:///{tmp_path / 'missing' / 'workflows.sqlite'}", "node-1", STEP_ORDER_VERSION, QUEUES)
    with pytest.raises(ConfigurationError, match=r"database_url: connection failed.*refused") as told:
        launch_engine("postgresql://iscl:geheim@127.0.0.1:1/iscl_node", "node-1", STEP_ORDER_VERSION, QUEUES)
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize("password", ["gehe@im", "gehe%40im", "geheim"])
def test_no_part_of_a_password_is_told(password: str) -> None:
    url = f"postgresql://iscl:{password}@host/iscl_node"
    error = OperationalError("", {}, Exception('could not translate host name "im@host"'))
    assert reason(error, url) == ("OperationalError" if "@" in password else str(error.orig))
