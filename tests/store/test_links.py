"""Links in the spool are never followed: what they point to is not read, not changed and not deleted.

Everything that a link points to lies in the test's own folder.
"""

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, header, part10, quarantined_series

from iscl_node.domain import Batch
from iscl_node.errors import RejectInstanceError
from iscl_node.store import tree
from iscl_node.store.durable import append_synced
from iscl_node.store.leaving.export import export
from iscl_node.store.leaving.retention import Retention, RetentionLimits, Sizes
from iscl_node.store.log_key import places_of_uids
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

KEY = "20200101T000000.000000Z"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the spool that has what a series has, very old."""
    batch = tmp_path / "outside" / KEY
    (batch / "2.25.1").mkdir(parents=True)
    for path in (batch / "1.2.3.1.dcm", batch / "2.25.1" / "2.25.2.dcm", tmp_path / "outside" / "1.2.3.1.dcm"):
        path.write_bytes(part10(b"not of the spool"))
    for folder in (batch, tmp_path / "outside"):
        os.utime(folder, (1, 1))
    return tmp_path / "outside"


def contents(folder: Path) -> list[tuple[str, bytes]]:
    return sorted((str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file())


PLACES: dict[str, Callable[[Path, Path], None]] = {
    "a series": lambda folder, outside: (folder / SERIES).symlink_to(outside),
    "a batch": lambda folder, outside: ((folder / SERIES).mkdir(), (folder / SERIES / KEY).symlink_to(outside / KEY)),
    "a file": lambda folder, outside: (
        (folder / SERIES / KEY).mkdir(parents=True),
        (folder / SERIES / KEY / "1.2.3.1.dcm").symlink_to(outside / KEY / "1.2.3.1.dcm"),
    ),
    "a folder in a batch": lambda folder, outside: (
        (folder / SERIES / KEY).mkdir(parents=True),
        (folder / SERIES / KEY / "2.25.1").symlink_to(outside / KEY / "2.25.1"),
    ),
    "all of a state": lambda folder, outside: (
        shutil.rmtree(folder),
        (outside.parent / "elsewhere").mkdir(),
        (outside.parent / "elsewhere" / SERIES).symlink_to(outside),
        folder.symlink_to(outside.parent / "elsewhere"),
    ),
}
"""What of a folder of the spool is a link to what lies outside."""


@pytest.mark.parametrize("folder", ["open", "closed", "sent", "done", "ignored", "quarantine", "outbox", "receiving"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.fault(
    "spool",
    "a link to a folder or a file lies anywhere in the spool",
    "what it points to is not listed, not counted, not moved and not deleted, however old it is and however full the "
    "disk",
)
def test_no_link_is_followed_by_anything_that_lists_or_deletes(
    spool: Spool, outside: Path, folder: str, place: str
) -> None:
    before = contents(outside)
    PLACES[place](spool.root / folder, outside)
    retention = Retention(spool.root, RetentionLimits(0, max_bytes=1, free_bytes=1 << 60))

    spool.recover()
    for _ in range(2):
        retention.make_room(1 << 60)
        retention.purge_old(1e12)
    counted = Sizes(spool.root).by_folder()
    spool.requeue(SERIES, NOW)
    for batch in spool.closed_batches():
        spool.quarantine(batch, "why")
    OpenSeries(spool.root).instances(SERIES)
    export(spool.root, SERIES, outside.parent / "copy")

    assert contents(outside) == before
    assert counted[folder] == 0
    assert not [path for path in (outside.parent / "copy").rglob("*.dcm")]
    assert "not of the spool" not in str(places_of_uids(spool.root))


def test_a_late_link_in_the_way_of_a_batch_is_not_followed(spool: Spool, outside: Path) -> None:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW)
    before = contents(outside)
    (spool.root / "quarantine" / SERIES).symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        spool.quarantine(batch, "why")
    assert spool.closed_batches() == [batch]
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["reason.txt", "judge.png", "incomplete.txt"])
def test_what_is_written_into_a_batch_replaces_a_link_there(spool: Spool, outside: Path, name: str) -> None:
    before = contents(outside)
    spool.store(header(), part10(b"a"))
    (spool.root / "open" / SERIES / name).symlink_to(outside / "1.2.3.1.dcm")
    batch = spool.close(SERIES, NOW, "something")
    spool.keep_picture(batch, b"picture")
    spool.quarantine(batch, "why")
    assert contents(outside) == before
    assert not (spool.root / "quarantine" / SERIES / batch.key / name).is_symlink()


@pytest.mark.fault(
    "reception", "the folder of an open series is a link", "0xA700; nothing is written outside of the spool"
)
def test_nothing_is_received_into_a_link(spool: Spool, outside: Path) -> None:
    before = contents(outside)
    (spool.root / "open" / SERIES).symlink_to(outside)
    with pytest.raises(RejectInstanceError) as rejected:
        spool.store(header("1.2.3.9"), part10(b"a"))
    assert rejected.value.status == 0xA700
    assert "link" in str(rejected.value)
    assert contents(outside) == before


def test_an_instance_that_is_a_link_is_not_read_as_the_first_of_its_uid(spool: Spool, outside: Path) -> None:
    spool.store(header("1.2.3.9"), part10(b"a"))
    (spool.root / "open" / SERIES / "1.2.3.1.dcm").symlink_to(outside / "1.2.3.1.dcm")
    with pytest.raises(RejectInstanceError) as rejected:
        spool.store(header(), part10(b"not of the spool"))
    assert rejected.value.status == 0xA700


def test_records_are_neither_read_nor_written_through_a_link(spool: Spool, outside: Path) -> None:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW)
    told = outside / "told.json"
    told.write_text('{"destinations": ["elsewhere"]}')
    (spool.root / "closed" / SERIES / batch.key / f"{batch.key}.destinations.json").symlink_to(told)
    with pytest.raises(OSError, match="symbolic"):
        Deliveries(spool.root).destinations(batch)
    (spool.root / "releases.jsonl").symlink_to(told)
    with pytest.raises(OSError, match="link"):
        append_synced(spool.root / "releases.jsonl", b"{}\n")
    assert told.read_text() == '{"destinations": ["elsewhere"]}'


@pytest.mark.fault(
    "spool", "a person puts files or folders with names of their own into the spool", "they are left alone, and counted"
)
def test_what_is_no_batch_is_left_alone_and_counted(spool: Spool) -> None:
    quarantined_series(spool)
    done = spool.root / "done"
    (done / "old ones" / KEY).mkdir(parents=True)
    (done / SERIES / "keep").mkdir(parents=True)
    (done / ".nfs0001").write_bytes(b"")
    (spool.root / "closed" / "lost+found").mkdir()
    (spool.root / "open" / "notes").mkdir()
    assert Retention(spool.root, RetentionLimits(0)).purge_old(1e12) == 0
    spool.recover()
    assert spool.closed_batches() == []
    assert spool.strays() == {"done": 3, "closed": 1, "open": 1}
    assert (done / "old ones" / KEY).is_dir()
    assert (done / SERIES / "keep").is_dir()
    assert (spool.root / "open" / "notes").is_dir()


def test_a_state_that_is_a_link_does_not_open(spool: Spool, outside: Path) -> None:
    (spool.root / "done").rmdir()
    (spool.root / "done").symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        Spool.open(spool.root, 0)


def test_the_root_itself_may_be_reached_by_a_link(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(spool.root)
    linked = Spool.open(tmp_path / "link", 0)
    linked.store(header(), part10(b"a"))
    assert linked.close(SERIES, NOW) == Batch(SERIES, "20261122T235959.123456Z")
    assert len(spool.closed_batches()) == 1


# The tree itself


def test_removing_takes_a_link_and_leaves_what_it_points_to(tmp_path: Path, outside: Path) -> None:
    before = contents(outside)
    (tmp_path / "link").symlink_to(outside)
    tree.remove(tmp_path / "link" / KEY)
    with pytest.raises(OSError, match="link"):
        tree.remove_folder(tmp_path / "link" / KEY)
    tree.remove(tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    assert contents(outside) == before


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        tree.read_bytes(tmp_path / "pipe")
    assert not tree.is_file(tmp_path / "pipe")
    assert not tree.is_file(tmp_path / "nothing")


def test_a_conflict_is_not_looked_for_behind_a_link(spool: Spool, outside: Path) -> None:
    batch = quarantined_series(spool)
    (spool.root / "done" / SERIES).symlink_to(outside)
    assert len(spool.requeue(SERIES, NOW + timedelta(days=1))) == 1
    assert batch not in spool.closed_batches()
