"""PostgreSQL as the workflow database: a real server, which is locked, stopped and started."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import psycopg
import pytest
from database_errors import stop_listening
from dbos import DBOS
from failing_sqlite import told_faults, without_long_waits
from postgresql import PostgresqlServer
from psycopg import sql
from test_workflow import BATCH, PATIENCE_SECONDS, WHOLE_WAY, ScriptedSteps, scripted, the_workflow

from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.pipeline.engine.database_faults import DatabaseFaults
from iscl_node.pipeline.engine.ended import forget_ended
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.workflows.batch import QUEUES, STEP_ORDER_VERSION, SeriesWorkflow

PLACES = ["check", WHOLE_WAY[3], "send vault", "release"]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def series_workflow(monkeypatch: pytest.MonkeyPatch) -> SeriesWorkflow:
    monkeypatch.setattr(the_workflow()._trying, "_shutdown", Shutdown())
    return the_workflow()


@pytest.fixture
def steps(series_workflow: SeriesWorkflow, monkeypatch: pytest.MonkeyPatch) -> ScriptedSteps:
    without_long_waits(monkeypatch)
    return scripted(series_workflow, monkeypatch)


@pytest.fixture
def database(
    server: PostgresqlServer, series_workflow: SeriesWorkflow, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a database of its own, on which the engine runs."""
    url = server.url(f"test_{abs(hash(request.node.nodeid))}")
    faults = DatabaseFaults(series_workflow._trying._shutdown)
    faults.listen()
    launch_engine(url, "node-1", STEP_ORDER_VERSION, QUEUES)
    yield url
    stop_engine(PATIENCE_SECONDS)
    stop_listening(faults)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def at_call(steps: ScriptedSteps, place: str, act: Callable[[], None]) -> None:
    """Act once, in the middle of the step that makes this call."""

    class Acting(list[str]):
        def append(self, call: str) -> None:
            super().append(call)
            if call == place and self.count(call) == 1:
                act()

    steps.calls = Acting()


def all_ended() -> bool:
    return all(each.status == "SUCCESS" for each in DBOS.list_workflows())


def test_a_batch_comes_to_its_end_and_is_forgotten(
    database: str, series_workflow: SeriesWorkflow, steps: ScriptedSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # the second has no effect
        series_workflow.enqueue(BATCH)
    steps.wait_for(WHOLE_WAY)
    wait_until(all_ended)
    assert Counter(steps.calls) == Counter(WHOLE_WAY)
    monkeypatch.setattr("iscl_node.pipeline.engine.ended._AT_LEAST", timedelta(0))
    wait_until(lambda: forget_ended(0))
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT COUNT(*) FROM dbos.workflow_status").fetchone() == (0,)


@pytest.mark.fault(
    "machine",
    "the tables of PostgreSQL are locked while a step is recorded, deliveries are started or end, and the "
    "batch ends; with or without time-outs of the database's own",
    "the engine waits for the lock to go; the batch comes to its end, and no step is done twice",
)
@pytest.mark.parametrize(
    ("place", "timeout"),
    [*((place, "") for place in PLACES), ("check", "lock_timeout"), (WHOLE_WAY[3], "statement_timeout")],
)
def test_locked_tables_hold_up_and_lose_nothing(
    database: str, series_workflow: SeriesWorkflow, steps: ScriptedSteps, place: str, timeout: str
) -> None:
    unlocked = Event()
    with psycopg.connect(database) as other, told_faults() as told:
        if timeout:
            name = sql.Identifier(other.info.dbname)
            other.execute(sql.SQL("ALTER DATABASE {} SET {} = '1s'").format(name, sql.Identifier(timeout)))
            other.commit()
            stop_engine(PATIENCE_SECONDS)  # a database's settings are those of new connections
            launch_engine(database, "node-1", STEP_ORDER_VERSION, QUEUES)

        def unlock() -> None:
            if timeout:
                wait_until(lambda: len(told) > 2)
            else:
                time.sleep(1)
            other.rollback()
            unlocked.set()

        def lock() -> None:
            other.execute("SET lock_timeout = 0; SET statement_timeout = 0")
            other.execute(
                "LOCK TABLE dbos.workflow_status, dbos.operation_outputs, dbos.notifications, dbos.workflow_input, "
                "dbos.workflow_output IN ACCESS EXCLUSIVE MODE"
            )
            Thread(target=unlock).start()

        at_call(steps, place, lock)
        series_workflow.enqueue(BATCH)
        steps.wait_for(WHOLE_WAY)
        assert unlocked.wait(PATIENCE_SECONDS)
        wait_until(all_ended)
    assert Counter(steps.calls) == Counter(WHOLE_WAY)


@pytest.mark.fault(
    "machine",
    'PostgreSQL is stopped ("immediate") in the middle of a step, and started again later',
    "the node goes on by itself; the batch comes to its end, and no step is done twice",
)
@pytest.mark.parametrize("place", PLACES)
def test_a_server_that_stops_in_the_middle_of_a_step(
    database: str, server: PostgresqlServer, series_workflow: SeriesWorkflow, steps: ScriptedSteps, place: str
) -> None:
    with told_faults() as told:

        def start() -> None:
            wait_until(lambda: len(told) > 2)
            server.start()

        def stop() -> None:
            server.stop()
            Thread(target=start).start()

        at_call(steps, place, stop)
        series_workflow.enqueue(BATCH)
        steps.wait_for(WHOLE_WAY)
        wait_until(all_ended)
    assert Counter(steps.calls) == Counter(WHOLE_WAY)


@pytest.mark.fault(
    "machine",
    "PostgreSQL is gone when a batch is closed",
    "housekeeping gets the error at once, and the batch is started when PostgreSQL is there again",
)
def test_a_server_that_is_gone_keeps_housekeeping_from_nothing(
    database: str, server: PostgresqlServer, series_workflow: SeriesWorkflow, steps: ScriptedSteps
) -> None:
    server.stop()
    for _ in range(2):
        with pytest.raises(RetryLaterError, match="takes no batch: OperationalError"):
            series_workflow.enqueue(BATCH)
    with pytest.raises(RetryLaterError, match="deletes nothing: OperationalError"):
        forget_ended(0)
    server.start()
    series_workflow.enqueue(BATCH)
    steps.wait_for(WHOLE_WAY)


@pytest.mark.fault(
    "machine",
    "PostgreSQL is down when the node starts, or refuses the password",
    "an error that says why, with no word of the password",
)
def test_a_server_that_is_down_at_the_start(server: PostgresqlServer) -> None:
    url = server.url("never_made").replace("@", ":geheim@")
    server.stop()
    try:
        with pytest.raises(ConfigurationError, match="Connection refused") as told:
            launch_engine(url, "node-1", STEP_ORDER_VERSION, QUEUES)
    finally:
        server.start()
    assert "geheim" not in str(told.value)


@pytest.mark.fault(
    "machine",
    "two workers with one database have the same batches to begin",
    "each batch is started once, each step is done once, by one of them",
)
def test_two_workers_share_the_work_and_do_nothing_twice(server: PostgresqlServer, tmp_path: Path) -> None:
    batches, notes = 8, tmp_path / "notes"
    program = [sys.executable, str(Path(__file__).with_name("worker.py")), server.url("two_workers")]
    workers = [
        subprocess.Popen([*program, name, str(notes), str(batches)], stdin=subprocess.PIPE, text=True, bufsize=0)
        for name in ("node-1", "node-2")
    ]

    def calls() -> list[list[str]]:
        return [line.split(" ", 2) for line in notes.read_text().splitlines()] if notes.exists() else []

    for _ in range(2):
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
        wait_until(lambda: sum(call.startswith("conclude") for *_, call in calls()) >= 2 * batches)
    assert [worker.wait(PATIENCE_SECONDS) for worker in workers] == [0, 0]
    done = Counter((series, call) for _, series, call in calls())
    assert set(done.values()) == {1}
    assert len(done) == batches * len({call for _, call in done})
    assert {worker for worker, *_ in calls()} == {"node-1", "node-2"}
