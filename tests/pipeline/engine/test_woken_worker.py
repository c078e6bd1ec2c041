"""Workers as processes: killed, stopped and woken in the middle of sending."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from leased_worker import HALF, MANY
from postgresql import PostgresqlServer

PATIENCE_SECONDS = 240
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    notes = tmp_path / "notes"
    notes.touch()
    return notes


@pytest.fixture
def url(server: PostgresqlServer, request: pytest.FixtureRequest) -> str:
    return server.url(f"woken_{abs(hash(request.node.nodeid))}")


@pytest.fixture
def start(url: str, notes: Path) -> Iterator[Start]:
    program = [sys.executable, str(Path(__file__).with_name("leased_worker.py")), url]
    workers: list[subprocess.Popen[str]] = []

    def started(name: str) -> "subprocess.Popen[str]":
        worker = subprocess.Popen([*program, name, str(notes)], stdin=subprocess.PIPE, text=True, bufsize=0)
        workers.append(worker)
        return worker

    yield started
    for worker in workers:
        worker.kill()
        worker.wait()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sendings(notes: Path) -> Counter[str]:
    return Counter(line.split()[1] for line in notes.read_text().splitlines() if line.startswith("sent"))


def status_of_it(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT status, executor_id FROM dbos.workflow_status").fetchone()


@pytest.mark.fault(
    "machine",
    "one of two workers is killed (`kill -9`) in the middle of sending",
    "the other one sends the rest; the instance being sent is sent twice at most",
)
def test_a_killed_worker(start: Start, url: str, notes: Path) -> None:
    first = start("node-1")
    wait_until(lambda: len(sendings(notes)) == HALF + 1)
    start("node-2")
    wait_until(lambda: len(sendings(notes)) > HALF + 1)
    first.kill()
    wait_until(lambda: "end node-2" in notes.read_text())
    assert len(sendings(notes)) == MANY
    assert sendings(notes).total() <= MANY + 1
    wait_until(lambda: status_of_it(url) == ("SUCCESS", "node-2"))


@pytest.mark.fault(
    "machine",
    "one of two workers is stopped (SIGSTOP) in the middle of sending, for longer than its lease lasts, and woken",
    "within a minute the other one goes on; the woken one changes nothing but, at most, the instance being sent",
)
def test_a_woken_worker_changes_nothing(start: Start, url: str, notes: Path) -> None:
    first = start("node-1")
    wait_until(lambda: len(sendings(notes)) == HALF + 1)
    start("node-2")
    wait_until(lambda: len(sendings(notes)) > HALF + 1)
    first.send_signal(signal.SIGSTOP)
    wait_until(lambda: "end node-2" in notes.read_text())
    wait_until(lambda: status_of_it(url) == ("SUCCESS", "node-2"))
    first.send_signal(signal.SIGCONT)
    assert first.stdin is not None
    first.stdin.write("stop once the lease is taken again\n")
    assert first.wait(PATIENCE_SECONDS) == 0
    assert len(sendings(notes)) == MANY
    assert sendings(notes).total() <= MANY + 1
    assert "end node-1" not in notes.read_text()
    assert status_of_it(url) == ("SUCCESS", "node-2")
