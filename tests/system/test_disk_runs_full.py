"""The whole program on a disk that has no room for all that it accepted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of
from factories import soft_tissue
from node import Node
from sending import MakeSeries, send
from small_disk import SmallDisk

pytestmark = pytest.mark.peers

SERIES, SLICES, SIDE = 8, 12, 160
LEFT_BYTES = 1_800_000
"""Room for two derived series of 12 slices of 51 KB, and for what SQLite writes; eight of them do not fit."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    mount_point = tmp_path / "node" / "spool"
    mount_point.mkdir(parents=True)
    disk = SmallDisk(mount_point, 24)
    yield disk
    disk.close()


@pytest.mark.fault(
    "spool",
    "eight series wait, and another program leaves room for the derived objects of two",
    "they are made and delivered one after the other, without a person; nothing is lost, nothing is sent twice",
)
def test_eight_series_on_a_full_disk(
    disk: SmallDisk, archive: RecordingArchive, bundle: Path, tmp_path: Path, make_series: MakeSeries
) -> None:
    pixels = soft_tissue(side=SIDE)
    all_series = [make_series(SLICES, f"series {number}", pixels=pixels) for number in range(SERIES)]
    node = Node(tmp_path / "node", archive.port, bundle, quiet_seconds=60)
    node.spool, node.wrapper = disk.root, disk.wrapper
    try:
        node.start()
        send(node, [file for series in all_series for file in files_of(series)])
        node.kill()
        disk.fill(leaving=LEFT_BYTES)
        node.change_settings("quiet_seconds = 60", "quiet_seconds = 1")
        node.start()
        for series in all_series:  # what is delivered goes for space at once, so that the archive tells
            node.wait_for(lambda one=series: all(archive.derived_of(one).values()), "a series is delivered")
    finally:
        node.close()

    for series in all_series:
        assert_delivered(node, archive, series)
    assert set(archive.counts().values()) == {1}
