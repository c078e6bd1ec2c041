"""One node receives, others work, on one spool and one PostgreSQL; each of them is killed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from archive import RecordingArchive
from bundles import slow_bundle
from delivery import assert_delivered, files_of, series_uid_of
from fleet import Fleet, closing
from node import PATIENCE_SECONDS, Node, wait_for
from postgresql import PostgresqlServer
from sending import MakeSeries, association, send

pytestmark = pytest.mark.peers

SLICES = 4
WORKERS = ("worker-1", "worker-2", "worker-3")
PATIENCE = 4 * PATIENCE_SECONDS
"""Of several processes that start on one machine."""
KILLS = 8 + SLICES
"""After none, one, two ... of the steps before the sending: audit, check, make, planned, derive for each slice, judge,
destinations, deliver; then while it is sent."""
RECEIVING, RECEIVED, CLOSED = 3, 7, 11
"""Before which of these a receiver is killed: with one instance answered, with all, with the series closed."""


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def fleet(tmp_path: Path, server: PostgresqlServer, archive: RecordingArchive) -> Iterator[Fleet]:
    with closing(Fleet(tmp_path, server, archive.port, slow_bundle(tmp_path / "slow", 0.2))) as made:
        yield made


@pytest.mark.fault(
    "machine",
    "of a receiving and two working nodes one worker is killed (`kill -9`) while it denoises",
    "the other one goes on with the series; everything is delivered, each instance once",
)
def test_one_receives_and_two_work_and_one_of_these_is_killed(
    fleet: Fleet, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    receiver = fleet.make("receiver", "receive")
    for name in WORKERS[:2]:
        fleet.make(name, "work")
    fleet.start()
    series = [make_series(SLICES, f"series-{number}") for number in range(3)]
    for each in series:
        send(receiver, files_of(each))
    uid = series_uid_of(series[0])
    holder = wait_for(lambda: fleet.holder_of(uid), "a worker has it", fleet.logs, PATIENCE)
    told = fleet.workers()
    wait_for(lambda: fleet.steps_of(uid) >= 3, "a slice is made", fleet.logs, PATIENCE)
    fleet.nodes[holder].kill()
    fleet.wait_until_done(series, PATIENCE)

    assert holder in WORKERS
    roles = {name: each["role"] for name, each in told.items()}
    assert roles == {"receiver": "receive", **dict.fromkeys(WORKERS[:2], "work")}
    assert [each["state"] for each in told.values()].count("leads") == 1
    for each in series:
        assert_delivered(receiver, archive, each)
    assert sum(archive.counts().values()) <= 3 * SLICES + 1
    assert "workflow.restarted" not in fleet.all_logs()
    assert holder not in {name for name, each in fleet.workers().items() if each["state"] != "dead"}
    assert receiver.metric("iscl_node_worker_info", {"worker": "receiver", "role": "receive"}) == 1


@pytest.mark.long
@pytest.mark.fault(
    "machine",
    "of two receiving and three working nodes each is killed (`kill -9`): the workers after each step of a series, the "
    "receivers with a part of it, with all of it, and when it is closed",
    "everything is delivered; an instance is stored again only if it was being sent at a kill; no workflow starts anew",
)
def test_two_receive_and_three_work_and_each_is_killed(
    fleet: Fleet, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    receivers = [fleet.make(f"receiver-{number}", "receive") for number in range(2)]
    for name in WORKERS:
        fleet.make(name, "work")
    fleet.start()
    sent = []
    for steps in range(KILLS):
        series = make_series(SLICES, f"series-{steps}")
        sent.append(series)
        receiver = receivers[steps % 2]
        if steps == RECEIVING:
            with association(receiver) as opened:
                opened.send_c_store(files_of(series)[0])
                kill_and_start(receiver, fleet)
        archive.hold()  # so that it is sent, and the workflow in hand, when the worker is killed at the latest
        send(receiver, files_of(series))
        uid = series_uid_of(series)
        if steps == CLOSED:
            wait_for(lambda uid=uid: "closed" in receivers[0].states(uid), "it is closed", fleet.logs, PATIENCE)
        if steps in (RECEIVED, CLOSED):
            kill_and_start(receiver, fleet)
        wait_for(partial(fleet.has_steps, uid, steps), f"{steps} steps", fleet.logs, PATIENCE)
        holder = wait_for(partial(fleet.holder_of, uid), "a worker has it", fleet.logs, PATIENCE)
        fleet.nodes[holder].kill()
        fleet.nodes[holder].begin()
        archive.let_go()
        fleet.wait_until_done([series], PATIENCE)
    for each in sent:
        assert_delivered(receivers[0], archive, each)
    assert sum(archive.counts().values()) <= len(sent) * SLICES + KILLS
    assert "workflow.restarted" not in fleet.all_logs()


def kill_and_start(receiver: Node, fleet: Fleet) -> None:
    receiver.kill()
    receiver.begin()
    wait_for(receiver._is_ready, "it is ready again", fleet.logs, PATIENCE)
