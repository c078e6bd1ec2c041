"""What is deleted, and above all what is not."""

import json
import os
import shutil
import time
from collections import namedtuple
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, files, header, part10, quarantined_series, quarantined_series_of

from iscl_node.domain import Batch, SetAsideBatch
from iscl_node.logs import hashed
from iscl_node.store import tree
from iscl_node.store.known_folders import KnownFolders
from iscl_node.store.leaving import retention
from iscl_node.store.leaving.retention import RELEASES_FILE, Retention, RetentionLimits, Sizes, discard
from iscl_node.store.log_key import made_log_key
from iscl_node.store.spool import Spool

Usage = namedtuple("Usage", "total used free")
A_WEEK = RetentionLimits(7 * 86400)
NO_TIME = RetentionLimits(0)


def delivered(spool: Spool, series: str, ended: float, state: str = "done") -> Path:
    """A batch that came to its end at a time, in seconds since the epoch."""
    spool.store(header(f"{series}.1", series), part10(bytes(1000)))
    batch = spool.close(series, NOW)
    spool.release(batch) if state == "done" else spool.ignore(batch, "why")
    folder = spool.root / state / series / batch.key
    os.utime(folder, (ended, ended))
    return folder


@pytest.fixture
def undelivered(spool: Spool) -> list[str]:
    """A series in every state that nothing may delete from, and what lies there."""
    quarantined_series_of(spool, "1.2.5")
    spool.store(header(), part10(b"a"))
    spool.store(header(), part10(b"another"))
    spool.store(header(series="1.2.6"), part10(b"a"))
    batch = spool.close("1.2.6", NOW)
    spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    found = files(spool)
    assert {name.split("/")[0] for name in found} == {"open", "closed", "quarantine", "outbox"}
    assert any("conflict-" in name for name in found)
    return found


@pytest.mark.parametrize("state", ["done", "ignored"])
def test_what_has_ended_is_kept_for_its_time(spool: Spool, state: str) -> None:
    delivered(spool, SERIES, 1_000, state)
    assert Retention(spool.root, RetentionLimits(100)).purge_old(1_099) == 0
    assert Retention(spool.root, RetentionLimits(100)).purge_old(1_101) == 1
    assert files(spool) == []
    assert not (spool.root / state / SERIES).exists()


def test_what_was_derived_goes_with_its_batch(spool: Spool) -> None:
    folder = delivered(spool, SERIES, 1_000)
    batch = Batch(SERIES, folder.name)
    spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    before = sum(Sizes(spool.root).by_folder().values())
    keeping = Retention(spool.root, RetentionLimits(0, max_bytes=1))
    assert before > sum(path.stat().st_size for path in folder.iterdir())
    assert keeping.make_room(before) == 1
    assert files(spool) == []
    assert not (spool.root / "outbox" / SERIES).exists()


def test_the_time_counts_from_the_release(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW)
    os.utime(spool.root / "closed" / SERIES / batch.key, (1_000, 1_000))
    spool.release(batch)
    assert (spool.root / "done" / SERIES / batch.key).stat().st_mtime > 1_000


@pytest.mark.fault("spool", "everything is too old and the disk too small", "nothing is deleted that was not delivered")
def test_age_and_space_delete_nothing_that_was_not_delivered(spool: Spool, undelivered: list[str]) -> None:
    delivered(spool, "1.2.9", 1_000)
    everything = RetentionLimits(0, max_bytes=1, free_bytes=1 << 60)
    for _ in range(2):
        Retention(spool.root, everything).make_room(1 << 60)
        Retention(spool.root, everything).purge_old(1e12)
    assert files(spool) == undelivered


def test_the_oldest_delivered_batches_make_room(spool: Spool) -> None:
    ended = [delivered(spool, f"1.2.{number}", 1_000 + age) for number, age in ((7, 3), (8, 1), (9, 2))]
    ignored = delivered(spool, "1.2.10", 0, "ignored")
    size = sum(Sizes(spool.root).by_folder().values())
    keeping = Retention(spool.root, RetentionLimits(0, max_bytes=size - 1))
    assert keeping.make_room(size - 1) == 0
    assert keeping.make_room(size) == 1
    assert [folder.exists() for folder in ended] == [True, False, True]
    assert keeping.make_room(2 * size) == 2
    assert ignored.exists()


@pytest.mark.fault("spool", "the free space comes near the reserve", "the oldest delivered batch goes")
def test_free_space_near_the_reserve_makes_room(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    newer, older = delivered(spool, "1.2.7", 2_000), delivered(spool, "1.2.8", 1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, 999_500))
    assert Retention(spool.root, RetentionLimits(0, free_bytes=999_500)).make_room() == 0
    assert Retention(spool.root, RetentionLimits(0, free_bytes=1_000_000)).make_room() == 1
    assert (newer.exists(), older.exists()) == (True, False)


def test_no_limit_of_bytes_is_none(spool: Spool) -> None:
    delivered(spool, SERIES, 0)
    assert Retention(spool.root, A_WEEK).make_room(1 << 60) == 0


def test_very_many_are_deleted_in_parts(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_AT_A_TIME", 2)
    for number in range(3):
        delivered(spool, f"1.2.{number}", number)
    keeping = Retention(spool.root, NO_TIME)
    assert [keeping.purge_old(100) for _ in range(3)] == [2, 1, 0]


def test_a_batch_without_a_byte_is_counted_too(spool: Spool) -> None:
    for path in delivered(spool, SERIES, 0).iterdir():
        path.write_bytes(b"")
    assert Retention(spool.root, NO_TIME).purge_old(1e12) == 1


@pytest.mark.fault(
    "spool", "a kill while a delivered batch is deleted", "no part of it is left as a batch; the rest is deleted later"
)
def test_a_kill_while_deleting_leaves_no_part_of_a_batch(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    delivered(spool, SERIES, 0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            Retention(spool.root, NO_TIME).purge_old(100)
    assert all(name.startswith("receiving/") for name in files(spool))
    Retention(spool.root, NO_TIME).purge_old(100)
    assert files(spool) == []


@pytest.mark.fault("spool", "a batch is requeued at the moment it is to be deleted", "it is not deleted")
def test_a_batch_taken_up_again_meanwhile_is_left_alone(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered(spool, SERIES, 0, "ignored")
    move_folder = retention.move_folder

    def requeue_first(source: Path, target: Path) -> None:
        spool.requeue(SERIES, NOW + timedelta(days=1))
        move_folder(source, target)

    monkeypatch.setattr(retention, "move_folder", requeue_first)
    assert Retention(spool.root, NO_TIME).purge_old(100) == 0
    assert len(spool.closed_batches()) == 1


# Sizes


def test_sizes_follow_what_changes_and_look_at_the_rest_once(
    spool: Spool, undelivered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Sizes(spool.root, KnownFolders(lambda: time.time() + 60))  # nothing changed a moment ago
    lies = {
        name: sum((spool.root / file).stat().st_size for file in undelivered if file.startswith(f"{name}/"))
        for name in ("receiving", "outbox", "open", "closed", "sent", "done", "ignored", "quarantine")
    }
    assert sizes.by_folder() == lies
    looks = count()
    look = tree.contents
    monkeypatch.setattr(tree, "contents", lambda folder: next(looks) + 1 and look(folder))
    assert sizes.by_folder() == lies
    assert next(looks) == 0
    added = part10(b"one more")
    spool.store(header("1.2.3.9"), added)
    assert sizes.by_folder() == lies | {"open": lies["open"] + len(added)}


# What a person releases from quarantine


def record(spool: Spool) -> list[dict[str, object]]:
    return [json.loads(line) for line in (spool.root / RELEASES_FILE).read_text().splitlines()]


def test_the_record_names_the_series_as_the_log_does(spool: Spool) -> None:
    quarantined_series(spool)
    name = hashed(made_log_key(spool.root), SERIES)
    assert discard(spool.root, spool.quarantined(), "anna", NOW) == 1
    assert record(spool)[0]["series"] == name


def test_a_released_batch_goes_and_the_record_stays(spool: Spool, undelivered: list[str]) -> None:
    chosen = [each for each in spool.quarantined() if each.batch.key.startswith("conflict-")]
    assert discard(spool.root, chosen, "anna (1000)", NOW) == 1
    left = [name for name in undelivered if "conflict-" not in name]
    assert files(spool) == sorted([*left, RELEASES_FILE])
    (entry,) = record(spool)
    assert entry["event"] == "released"
    assert (entry["user"], entry["batch"]) == ("anna (1000)", chosen[0].batch.key)
    assert (entry["files"], entry["bytes"]) == (2, chosen[0].size_bytes)
    assert SERIES not in (spool.root / RELEASES_FILE).read_text()


@pytest.mark.fault("spool", "the record of a release from quarantine cannot be written", "nothing is deleted")
def test_without_a_record_nothing_is_deleted(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    quarantined_series(spool)
    before = files(spool)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(retention, "append_synced", full)
    with pytest.raises(OSError, match="No space"):
        discard(spool.root, spool.quarantined(), "anna", NOW)
    assert files(spool) == before


@pytest.mark.fault(
    "spool",
    "a batch is requeued at the moment it is released from quarantine",
    "it is not deleted, and the record says so",
)
def test_what_was_requeued_meanwhile_is_not_released_and_the_record_says_so(spool: Spool) -> None:
    quarantined_series(spool)
    chosen = spool.quarantined()
    spool.requeue(SERIES, NOW + timedelta(days=1))
    assert discard(spool.root, chosen, "anna", NOW) == 0
    assert len(spool.closed_batches()) == 1
    assert [entry["event"] for entry in record(spool)] == ["released", "not released, it was gone"]


@pytest.mark.parametrize("state", ["done", "ignored"])
def test_only_what_is_in_quarantine_can_be_released(spool: Spool, state: str) -> None:
    folder = delivered(spool, SERIES, 0, state)
    with pytest.raises(ValueError, match="only what is in quarantine"):
        discard(spool.root, [SetAsideBatch(Batch(SERIES, folder.name), "why", folder)], "anna", NOW)
    assert folder.exists()
