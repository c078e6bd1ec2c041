"""Receiving into the spool: nothing acknowledged is ever lost, nothing else is left behind."""

import errno
import os
import shutil
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, files, header, part10, quarantined_series

from iscl_node.domain import Arrival, SeriesState
from iscl_node.errors import RejectInstanceError
from iscl_node.store.receiving import reception
from iscl_node.store.spool import Spool


def test_an_instance_is_stored_byte_for_byte(spool: Spool) -> None:
    assert spool.store(header(), part10(b"a")) is Arrival.NEW
    assert files(spool) == ["open/1.2.3/1.2.3.1.dcm"]
    assert (spool.root / "open/1.2.3/1.2.3.1.dcm").read_bytes() == part10(b"a")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
@pytest.mark.fault(
    "spool",
    "the power fails around the success",
    "content, then name are synced before it (the order is tested, not the power)",
)
def test_the_way_to_success_is_write_sync_link_sync(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.store(header("1.2.3.1"), part10(b"a"))
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def traced_fsync(descriptor: int) -> None:
        synced = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(spool.root)
        steps.append("sync part" if synced.suffix == ".part" else f"sync {synced}")
        fsync(descriptor)

    def traced_link(source: Path, target: Path) -> None:
        steps.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "link", traced_link)
    spool.store(header("1.2.3.2"), part10(b"b"))
    assert steps == ["sync part", "link", "sync open/1.2.3"]
    steps.clear()
    spool.store(header("1.2.4.1", "1.2.4"), part10(b"b"))
    assert steps == ["sync part", "sync open", "link", "sync open/1.2.4"]


@pytest.mark.parametrize("uid", ["", ".", "..", "../1", "1/2", "1..2", ".1", "1.", "1.a", "1\n", "１", "1" * 65, "1\0"])
@pytest.mark.fault("reception", "a UID that is none, like `../1`", "0xC000, and nothing is stored")
def test_what_is_no_uid_never_becomes_a_path(spool: Spool, uid: str) -> None:
    for bad in (header(sop=uid), header(series=uid)):
        with pytest.raises(RejectInstanceError) as rejected:
            spool.store(bad, part10(b"a"))
        assert rejected.value.status == 0xC000
    assert files(spool) == []


@pytest.mark.parametrize("state", ["open", "closed", "done"])
@pytest.mark.parametrize("sender", [b"SCANNER ", b"PACS"])
@pytest.mark.fault("reception", "the same data set again", "a success, and nothing changes in the spool")
def test_the_same_data_set_again_is_a_success_and_nothing_new(spool: Spool, state: str, sender: bytes) -> None:
    spool.store(header(), part10(b"a"))
    if state != "open":
        batch = spool.close(SERIES, NOW)
        if state == "done":
            spool.release(batch)
    before = files(spool)
    assert spool.store(header(), part10(b"a", sender)) is Arrival.REPEATED
    assert files(spool) == before


@pytest.mark.parametrize("state", ["open", "closed", "done"])
@pytest.mark.fault(
    "reception", "another data set under a taken UID", "the first stays, the other is in quarantine with the reason"
)
def test_another_data_set_under_a_taken_uid_is_kept_apart(spool: Spool, state: str) -> None:
    spool.store(header(), part10(b"a"))
    if state != "open":
        batch = spool.close(SERIES, NOW)
        if state == "done":
            spool.release(batch)
    before = files(spool)
    for _ in range(2):
        assert spool.store(header(), part10(b"b")) is Arrival.CONFLICT
    (kept,) = spool.quarantined()
    assert kept.batch.key.startswith("conflict-")
    assert "already here" in kept.reason
    assert (kept.folder / "1.2.3.1.dcm").read_bytes() == part10(b"b")
    added = ["open/1.2.3/conflict.txt"] if state == "open" else []
    assert [file for file in files(spool) if not file.startswith("quarantine")] == sorted([*before, *added])


def test_two_conflicts_are_both_kept(spool: Spool) -> None:
    for data_set in (b"a", b"b", b"c"):
        spool.store(header(), part10(data_set))
    assert len(spool.quarantined()) == 2


def test_a_stream_without_group_length_is_compared_as_it_is(spool: Spool) -> None:
    spool.store(header(), b"short")
    assert spool.store(header(), b"short") is Arrival.REPEATED
    spool.store(header(), b"other")
    assert spool.counts()[SeriesState.QUARANTINE] == 1


def test_a_quarantined_series_can_be_sent_again_in_full(spool: Spool) -> None:
    quarantined_series(spool)
    assert spool.store(header(), part10(b"a")) is Arrival.NEW


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.fault(
    "spool",
    "the disk is full when an instance is written or synced",
    "0xA700 and nothing left behind; with space again it is stored",
)
def test_a_full_disk_rejects_the_instance_and_leaves_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RejectInstanceError, match="No space left on device") as rejected:
            spool.store(header(), part10(b"a"))
    assert rejected.value.status == 0xA700
    assert files(spool) == []
    assert spool.store(header(), part10(b"a")) is Arrival.NEW


@pytest.mark.fault("spool", "the system takes only a part of a write", "the rest is written, too")
def test_a_write_that_takes_only_a_part_is_continued(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    spool.store(header(), part10(b"a" * 100))
    monkeypatch.undo()
    assert (spool.root / "open/1.2.3/1.2.3.1.dcm").read_bytes() == part10(b"a" * 100)


@pytest.mark.fault("spool", "an instance cannot be linked into its series", "0xA700, and nothing left behind")
def test_a_failed_link_rejects_the_instance(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: Path, target: Path) -> Path:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", broken)
        with pytest.raises(RejectInstanceError) as rejected:
            spool.store(header(), part10(b"a"))
    assert rejected.value.status == 0xA700
    assert files(spool) == []


@pytest.mark.fault(
    "spool",
    "a folder cannot be synced",
    "no success, also for a repetition; with a disk that works again the repetition succeeds",
)
def test_a_folder_that_cannot_be_synced_means_no_success_and_a_repetition_makes_it_good(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(reception, "sync_entry", broken)
        with pytest.raises(RejectInstanceError):
            spool.store(header(), part10(b"a"))
        with pytest.raises(RejectInstanceError):
            spool.store(header(), part10(b"a"))
    assert spool.store(header(), part10(b"a")) is Arrival.REPEATED
    assert files(spool) == ["open/1.2.3/1.2.3.1.dcm"]


@pytest.mark.fault("spool", "the disk's reserve is reached", "0xA700")
def test_the_reserve_is_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 0, 1_000))
    spool = Spool.open(tmp_path, min_free_bytes=500)
    spool.store(header(), b"x" * 500)
    with pytest.raises(RejectInstanceError, match="reserve") as rejected:
        spool.store(header("1.2.3.2"), b"x" * 501)
    assert rejected.value.status == 0xA700
    assert spool.free_bytes() == 1_000


@pytest.mark.fault(
    "spool",
    "the disk's reserve is reached, and then there is space again",
    "instances are taken again without a restart",
)
def test_with_space_again_instances_are_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    free = [499, 10_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 0, free[0]))
    spool = Spool.open(tmp_path, min_free_bytes=500)
    for _ in range(2):
        with pytest.raises(RejectInstanceError, match="reserve"):
            spool.store(header(), part10(b"a"))
    free.reverse()
    assert spool.store(header(), part10(b"a")) is Arrival.NEW


@pytest.mark.fault("spool", "a part file that a kill left", "removed at the start, and nothing else is")
def test_a_killed_receivers_part_file_is_removed_and_nothing_else(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    (spool.root / "receiving" / "0123.part").write_bytes(b"half an inst")
    (spool.root / "open" / "1.2.9").mkdir()
    again = Spool.open(spool.root, min_free_bytes=0)
    assert again.recover() == 1
    assert files(again) == ["open/1.2.3/1.2.3.1.dcm"]
    assert not (spool.root / "open" / "1.2.9").exists()
    assert again.recover() == 0


def close_and_sometimes_release(spool: Spool, stop: threading.Event) -> int:
    """Close the series a thousand times a second, until told to stop; return how often."""
    closed = 0
    while not stop.wait(0.001):
        try:
            batch = spool.close(SERIES, NOW + timedelta(milliseconds=closed))
        except FileNotFoundError:
            continue
        closed += 1
        if closed % 2:
            spool.release(batch)
    return closed


def send_twice_each(spool: Spool, uids: list[str]) -> None:
    for uid in uids:
        spool.store(header(uid), part10(b"a"))
        spool.store(header(uid), part10(b"a"))


@pytest.mark.fault(
    "spool", "a series is closed again and again while three senders send to it", "every instance is there once"
)
def test_instances_and_closes_at_the_same_time_lose_nothing(spool: Spool) -> None:
    uids = [[f"1.2.3.{sender}.{number}" for number in range(60)] for sender in range(3)]
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        closer = pool.submit(close_and_sometimes_release, spool, stop)
        senders = [pool.submit(send_twice_each, spool, mine) for mine in uids]
        wait(senders)
        stop.set()
    assert [sender.result() for sender in senders] == [None] * 3
    assert closer.result() > 1
    assert sorted(path.stem for path in spool.root.rglob("*.dcm")) == sorted(chain.from_iterable(uids))
    assert not list((spool.root / "receiving").glob("*/*"))


@pytest.mark.fault("spool", "two senders send different data sets under one UID at the same time", "both are kept")
def test_two_senders_of_one_uid_lose_neither_data_set(spool: Spool) -> None:
    barrier = threading.Barrier(2)

    def send(data_set: bytes) -> None:
        for number in range(40):
            barrier.wait()
            spool.store(header(f"1.2.3.{number}"), part10(data_set))

    threads = [threading.Thread(target=send, args=(data_set,)) for data_set in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [path.read_bytes() for path in spool.root.rglob("*.dcm")]
    assert sorted(kept) == [part10(b"a")] * 40 + [part10(b"b")] * 40
