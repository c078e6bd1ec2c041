"""Leases and takeovers on a real PostgreSQL, which is stopped, started, and ends sessions."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from dbos import DBOS
from engine_probe import FEW, ONE_EACH, PROBE, URGENT, Probe
from postgresql import PostgresqlServer
from test_relied_on import PATIENCE_SECONDS, wait_until

from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.pipeline.engine import leases as leases_module
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.leases import NO_LEASE, Lease, in_place_of, taken_lease
from iscl_node.pipeline.engine.takeover import LOOKS, Takeover
from iscl_node.pipeline.engine.words import enqueue, under_way
from iscl_node.pipeline.engine.workers import Worker, living_workers, worker_key
from iscl_node.store.identity import spool_id

QUEUES = [FEW, ONE_EACH, URGENT]
Take = Callable[..., Lease]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def url(server: PostgresqlServer, request: pytest.FixtureRequest) -> str:
    return server.url(f"lease_{abs(hash(request.node.nodeid))}")


@pytest.fixture
def take(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Take]:
    """Leases, each of which is given back at the end; nobody waits for a name that is taken."""
    monkeypatch.setattr(leases_module, "_LONGEST_WAIT_SECONDS", 0)
    with ExitStack() as stack:

        def made(name: str, version: str = "1", role: str = "all") -> Lease:
            lease = taken_lease(url, Worker(name, role, version))
            assert isinstance(lease, Lease)
            stack.callback(lease.stop)
            return lease

        yield made


@pytest.fixture
def engine(url: str) -> Iterator[Probe]:
    launch_engine(url, "node-1", "1", QUEUES)
    yield Probe.fresh()
    PROBE.go_on.set()
    stop_engine(PATIENCE_SECONDS)


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def patient(act: Callable[[], Lease]) -> Lease:
    """Have it done once the server has noticed that a session is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except ConfigurationError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def end_sessions(url: str, name: str) -> None:
    """As PostgreSQL does with one of which it hears nothing."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            (f"iscl-node lease {name}",),
        )


def killed_worker(url: str, tmp_path: Path, act: str, name: str = "node-1") -> None:
    """Another worker that began this, and was killed with `kill -9`."""
    notes = tmp_path / "notes"
    program = [sys.executable, str(Path(__file__).with_name("engine_probe.py")), url, str(notes), act, name]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        os.kill(process.pid, signal.SIGKILL)


def taken_over(lease: Lease, cleared: list[str] | None = None) -> int:
    """How many workflows go on, looked at as often as it needs."""
    wait_for(lambda: lease.leads)
    takeover = Takeover(lease, ([] if cleared is None else cleared).append, lambda _: None)
    return sum(takeover.look() for _ in range(LOOKS))


def test_a_node_with_sqlite_is_alone() -> None:
    lease = taken_lease("sqlite:///somewhere", Worker("node-1", "all", "1"))
    assert lease is NO_LEASE
    assert (lease.is_fresh, lease.leads, lease.is_lost, lease.spool_id()) == (True, True, False, None)


@pytest.mark.fault(
    "machine",
    "two nodes of one `worker_name` are started on one PostgreSQL",
    "the second: exit code 2 and who has the name; once that has ended, or was killed, it starts",
)
def test_one_name_has_one_process(take: Take) -> None:
    first = take("node-1")
    with pytest.raises(ConfigurationError, match=rf"'node-1' is in use by process {os.getpid()} on .*; give"):
        take("node-1")
    take("node-2")
    first.stop()
    assert patient(lambda: take("node-1"))


def test_the_old_process_of_a_name_still_ends_while_the_new_one_starts(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = take("node-1")
    monkeypatch.setattr(leases_module, "_LONGEST_WAIT_SECONDS", PATIENCE_SECONDS)
    waited: list[float] = []
    sleep = time.sleep

    def ending(seconds: float) -> None:
        waited.append(seconds)
        old.stop()
        sleep(seconds)

    monkeypatch.setattr("iscl_node.pipeline.engine.leases.time.sleep", ending)
    take("node-1")
    assert waited


@pytest.mark.fault(
    "machine",
    "an upgraded node is started while one of the release before works on the spool",
    "exit code 2 and who it is; each would begin the other's series anew",
)
def test_two_versions_do_not_work_side_by_side(take: Take) -> None:
    old = take("node-1", version="1")
    with pytest.raises(ConfigurationError, match=r"worker 'node-1' .* another version"):
        take("node-2", version="2")
    old.stop()
    assert patient(lambda: take("node-2", version="2"))


@pytest.mark.fault(
    "machine",
    "several nodes are started at one instant, where there is neither a database nor a spool yet",
    "they make one of each, and all start",
)
def test_several_nodes_start_for_the_first_time(server: PostgresqlServer, tmp_path: Path) -> None:
    program = [sys.executable, str(Path(__file__).with_name("first_start.py"))]
    for attempt in range(4):
        (folder := tmp_path / str(attempt)).mkdir()
        arguments = [[server.url(f"first_{attempt}"), f"node-{number}", str(folder)] for number in range(5)]
        nodes = [
            subprocess.Popen([*program, *each], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            for each in arguments
        ]
        assert [said(node) for node in nodes] == ["ready"] * 5
        for node in nodes:
            tell(node)
        identities = {said(node) for node in nodes}
        for node in nodes:
            node.communicate("\n", PATIENCE_SECONDS)
        assert identities == {spool_id(folder / "spool")}


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")


def test_one_of_them_leads_and_another_one_follows(take: Take) -> None:
    first = take("node-1")
    wait_for(lambda: first.leads)
    second = take("node-2")
    time.sleep(3)
    assert not second.leads
    first.stop()
    wait_for(lambda: second.leads)


def test_who_lives_is_told(take: Take) -> None:
    lease, gone = take("node-1", role="receive"), take("node-2")
    gone.stop()

    def living() -> list[Worker]:
        with lease.connection() as connection:
            return living_workers(connection)

    wait_for(lambda: living() == [Worker("node-1", "receive", "1")])


@pytest.mark.fault(
    "machine",
    "PostgreSQL ends the session of a worker's lease, or is started again",
    "the worker takes its lease again; its work is not taken over",
)
@pytest.mark.parametrize("how", ["session", "server"])
def test_a_lost_lease_is_taken_again(url: str, take: Take, server: PostgresqlServer, how: str) -> None:
    lease, other = take("node-1"), take("node-2")
    wait_for(lambda: lease.leads or other.leads)
    if how == "session":
        end_sessions(url, "node-1")
    else:
        server.stop()
        server.start()
    wait_for(lambda: lease.generation == 2)
    wait_for(lambda: lease.leads or other.leads)
    assert not lease.is_lost
    with pytest.raises(ConfigurationError, match="in use"):
        take("node-1")


@pytest.mark.fault(
    "machine",
    "a worker was stopped so long that another process has its name",
    "it ends with exit code 75",
)
def test_a_name_that_another_process_has_is_lost(url: str, take: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []
    lease = take("node-1")
    lease.tell_loss(lambda: lost.append("node-1"))
    monkeypatch.setattr(leases_module, "_GIVE_UP_SECONDS", 0)
    with psycopg.connect(url, autocommit=True) as usurper:
        wait_for(lambda: usurped(url, usurper))
        wait_for(lambda: lease.is_lost)
    assert lost == ["node-1"]


def usurped(url: str, connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
    """Another session has the name."""
    end_sessions(url, "node-1")
    (is_taken,) = connection.execute("SELECT pg_try_advisory_lock(%s)", (worker_key("node-1"),)).fetchone() or (False,)
    return bool(is_taken)


@pytest.mark.fault(
    "machine",
    "one of several workers dies in the middle of a step, or was renamed",
    "within seconds another one goes on behind its last finished step; what it was receiving is cleared",
)
def test_what_a_dead_worker_did_goes_on(url: str, tmp_path: Path, take: Take) -> None:
    killed_worker(url, tmp_path, "two steps")
    launch_engine(url, "node-2", "1", QUEUES)
    probe, lease, cleared = Probe.fresh(), take("node-2"), list[str]()
    assert taken_over(lease, cleared) == 1
    wait_until(lambda: probe.calls == ["second"])
    assert cleared == ["node-1"]
    probe.go_on.set()
    wait_until(lambda: not under_way())
    assert taken_over(lease) == 0
    stop_engine(PATIENCE_SECONDS)


@pytest.mark.fault(
    "machine",
    "a worker restarts while another one takes over what it did",
    "its work goes on once",
)
def test_the_name_is_held_while_its_work_is_taken_over(take: Take) -> None:
    lease = take("node-2")
    with in_place_of(lease, "node-1") as is_free:
        assert is_free
        with pytest.raises(ConfigurationError, match="in use"):
            take("node-1")
    back = patient(lambda: take("node-1"))
    with in_place_of(lease, "node-1") as is_free:
        assert not is_free
    back.stop()


@pytest.mark.fault(
    "machine",
    "PostgreSQL restarts in the middle of a takeover",
    "the takeover is tried again, by the worker that leads then; no work is lost, none is done twice",
)
def test_the_database_restarts_in_the_middle_of_a_takeover(
    url: str, tmp_path: Path, take: Take, server: PostgresqlServer
) -> None:
    killed_worker(url, tmp_path, "two steps")
    launch_engine(url, "node-2", "1", QUEUES, is_working=False)
    lease = take("node-2")
    wait_for(lambda: lease.leads)

    def restart(_: str) -> None:
        server.stop()
        server.start()

    takeover = Takeover(lease, restart, lambda _: None)
    assert [takeover.look() for _ in range(LOOKS - 1)] == [0] * (LOOKS - 1)
    with pytest.raises(RetryLaterError):
        takeover.look()
    wait_for(lambda: lease.generation == 2)
    taken_over(lease)
    assert [each.identity for each in under_way()] == ["two"]
    assert [each.status for each in DBOS.list_workflows()] == ["ENQUEUED"]
    stop_engine(PATIENCE_SECONDS)
    launch_engine(url, "node-3", "1", QUEUES)
    probe = Probe.fresh()
    wait_until(lambda: probe.calls == ["second"])
    probe.go_on.set()
    wait_until(lambda: not under_way())
    stop_engine(PATIENCE_SECONDS)


@pytest.mark.fault(
    "machine",
    "two workers take over the same dead one, one after the other",
    "its work goes on once: the second finds nothing to take over",
)
def test_two_takeovers_of_one_worker(url: str, tmp_path: Path, take: Take) -> None:
    killed_worker(url, tmp_path, "two steps")
    launch_engine(url, "node-2", "1", QUEUES)
    probe, first, second = Probe.fresh(), take("node-2"), take("node-3")
    assert taken_over(first) == 1
    wait_until(lambda: probe.calls == ["second"])  # by now it is node-2's
    first.stop()
    kept = patient(lambda: take("node-2"))
    assert taken_over(second) == 0
    kept.stop()
    probe.go_on.set()
    wait_until(lambda: not under_way())
    assert probe.calls == ["second"]
    stop_engine(PATIENCE_SECONDS)


@pytest.mark.fault(
    "machine",
    "the worker that takes another one over leads no more when it is about to put its work back",
    "it puts nothing back: by now another one may run it",
)
def test_who_leads_no_more_takes_nothing_over(
    url: str, tmp_path: Path, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_worker(url, tmp_path, "two steps")
    launch_engine(url, "node-2", "1", QUEUES)
    probe, lease = Probe.fresh(), take("node-2")
    wait_for(lambda: lease.leads)

    takeover = Takeover(lease, lambda _: None, lambda _: None)
    assert [takeover.look() for _ in range(LOOKS - 1)] == [0] * (LOOKS - 1)
    leads = iter([True, False])  # at the look, and before it is put back
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "leads", property(lambda _: next(leads)))
        with pytest.raises(RetryLaterError, match="leads no more"):
            takeover.look()
    assert [each.status for each in DBOS.list_workflows()] == ["PENDING"]
    assert taken_over(lease) == 1
    wait_until(lambda: probe.calls == ["second"])
    probe.go_on.set()
    wait_until(lambda: not under_way())
    stop_engine(PATIENCE_SECONDS)


@pytest.mark.fault(
    "machine",
    "a worker dies between two finished steps of a workflow in a queue with room for one",
    "the room is free for the other workers, and the workflow goes on",
)
def test_a_dead_worker_keeps_no_room_of_a_queue(url: str, tmp_path: Path, take: Take) -> None:
    killed_worker(url, tmp_path, "only one")
    launch_engine(url, "node-2", "1", QUEUES)
    probe, lease = Probe.fresh(), take("node-2")
    enqueue(URGENT, "next", PROBE.note, "next")
    wait_until(lambda: probe.calls == ["next"])
    assert taken_over(lease) == 1
    wait_until(lambda: probe.calls == ["next", "second"])
    probe.go_on.set()
    wait_until(lambda: not under_way())
    stop_engine(PATIENCE_SECONDS)


@pytest.mark.fault(
    "machine",
    "a worker dies, and the database holds 100,000 ended workflows",
    "its work is taken over all the same",
)
def test_a_takeover_with_a_long_history(url: str, tmp_path: Path, take: Take) -> None:
    killed_worker(url, tmp_path, "two steps")
    with psycopg.connect(url) as connection:
        columns = [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'dbos' "
                "AND table_name = 'workflow_status' AND column_name NOT IN ('workflow_uuid', 'status')"
            )
        ]
        named = ", ".join(f'"{each}"' for each in columns)
        connection.execute(
            f"INSERT INTO dbos.workflow_status (workflow_uuid, status, {named}) "
            f"SELECT 'ended/' || number, 'SUCCESS', {named} FROM dbos.workflow_status, "
            "generate_series(1, 100000) AS number WHERE workflow_uuid = 'two'"
        )
    launch_engine(url, "node-2", "1", QUEUES)
    probe, lease = Probe.fresh(), take("node-2")
    assert taken_over(lease) == 1
    wait_until(lambda: probe.calls == ["second"])
    probe.go_on.set()
    wait_until(lambda: not under_way())
    stop_engine(PATIENCE_SECONDS)
