"""One process for each device, here twice the CPU: they work, are started again, and end with their parent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import RecordingArchive
from bundles import slow_bundle
from delivery import assert_delivered, files_of
from fleet import Fleet, closing
from node import PATIENCE_SECONDS, wait_for
from postgresql import PostgresqlServer
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

PATIENCE = 4 * PATIENCE_SECONDS
CHILDREN = {"node/cpu", "node/cpu-2"}


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def fleet(tmp_path: Path, server: PostgresqlServer, archive: RecordingArchive) -> Iterator[Fleet]:
    with closing(Fleet(tmp_path, server, archive.port, slow_bundle(tmp_path / "slow", 0.2))) as made:
        yield made


def living(fleet: Fleet) -> dict[str, int]:
    """The processes of the workers that live, by name."""
    return {name: int(each["pid"]) for name, each in fleet.workers().items() if each["state"] != "dead"}


@pytest.mark.fault(
    "machine",
    "of the processes that work, one for each device, one is killed (`kill -9`), and later the one that started them",
    "it is started again, and everything is delivered; with their parent they all end",
)
def test_a_process_for_each_device(fleet: Fleet, archive: RecordingArchive, make_series: MakeSeries) -> None:
    node = fleet.make("node", "all")
    node.change_settings('device = "cpu"', 'device = "cpu"\ndevices = ["cpu", "cpu"]')
    fleet.start()
    wait_for(lambda: {"node", *CHILDREN} <= living(fleet).keys(), "all work", fleet.logs, PATIENCE)
    killed = living(fleet)["node/cpu"]
    os.kill(killed, signal.SIGKILL)
    series = [make_series(3, f"series-{number}") for number in range(3)]
    for each in series:
        send(node, files_of(each))
    fleet.wait_until_done(series, PATIENCE)
    wait_for(lambda: living(fleet).get("node/cpu", killed) != killed, "it is started again", fleet.logs, PATIENCE)
    for each in series:
        assert_delivered(node, archive, each)
    assert {each["role"] for name, each in fleet.workers().items() if name in CHILDREN} == {"work"}
    assert fleet.workers()["node"]["role"] == "receive"
    node.kill()
    wait_for(lambda: not living(fleet), "all end", fleet.logs, PATIENCE)
