"""The whole program with a disk that fills up under spool and database, and with PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of, series_uid_of, wait_until_done
from node import Node
from postgresql import PostgresqlServer
from sending import MakeSeries, association, send
from small_disk import SmallDisk

pytestmark = pytest.mark.peers

OUT_OF_RESOURCES = 0xA700
WRONG_CONFIGURATION = 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    mount_point = tmp_path / "node" / "spool"
    mount_point.mkdir(parents=True)
    disk = SmallDisk(mount_point, 16)
    yield disk
    disk.close()


@pytest.fixture
def small_node(disk: SmallDisk, archive: RecordingArchive, bundle: Path, tmp_path: Path) -> Iterator[Node]:
    """A node that has its spool, and in it its workflow database, on the small disk."""
    node = Node(tmp_path / "node", archive.port, bundle)
    node.spool, node.wrapper = disk.root, disk.wrapper
    node.start()
    yield node
    node.close()


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.mark.fault(
    "machine",
    "another program fills the disk, under the spool and the SQLite workflow database at once, when a series has "
    "arrived, or while it is sent",
    "0xA700 for what arrives; with space again, everything is delivered without a restart, under the same UIDs",
)
@pytest.mark.parametrize("moment", ["arrived", "sending"])
def test_a_disk_that_is_full_under_spool_and_database(
    small_node: Node, archive: RecordingArchive, make_series: MakeSeries, disk: SmallDisk, moment: str
) -> None:
    node, series, late = small_node, make_series(4), make_series(1, "late")
    archive.hold()
    send(node, files_of(series))
    if moment == "sending":
        node.wait_for(archive.counts, "the first instance is on its way")

    disk.fill()
    archive.let_go()
    with association(node) as opened:
        refused = opened.send_c_store(files_of(late)[0]).Status
    told = ("No space left on device", "housekeeping.failed", '"dbos')
    node.wait_for(lambda: any(each in node.log() for each in told), "the full disk is told")
    held_up = node.states(series_uid_of(series))
    disk.empty()

    wait_until_done(node, series)
    send(node, files_of(late))
    wait_until_done(node, late)
    assert refused == OUT_OF_RESOURCES
    assert "done" not in held_up
    assert_delivered(node, archive, series)
    assert_delivered(node, archive, late)


@pytest.mark.long  # the engine's waits, which double
@pytest.mark.fault(
    "machine",
    "PostgreSQL is down when the node starts, and is killed and started again while a series is sent",
    "exit code 2 with the reason, and no password; the series is delivered without a restart, each instance once",
)
def test_a_node_with_postgresql(
    archive: RecordingArchive, make_series: MakeSeries, server: PostgresqlServer, bundle: Path, tmp_path: Path
) -> None:
    node = Node(tmp_path / "node", archive.port, bundle)
    url = server.url("iscl_node").replace("@", ":geheim@")
    node.change_settings("[scp]\n", f'database_url = "{url}"\n[scp]\n')
    server.stop()
    refused = node.command("serve")
    server.start()
    series = make_series(3)
    archive.hold()
    try:
        node.start()
        send(node, files_of(series))
        node.wait_for(archive.counts, "the first instance is on its way")
        server.stop()
        archive.let_go()
        node.wait_for(lambda: len(archive.counts()) == len(series), "the archive has everything")
        server.start()
        wait_until_done(node, series)
    finally:
        node.close()

    assert refused.returncode == WRONG_CONFIGURATION, refused.stderr
    assert "Connection refused" in refused.stderr
    assert "database_url" in refused.stderr
    assert "geheim" not in refused.stderr + node.log()
    assert "Traceback" not in refused.stderr
    assert set(archive.counts().values()) == {1}
    assert_delivered(node, archive, series)
