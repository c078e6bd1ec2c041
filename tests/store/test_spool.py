"""The spool: what lies where, from the closing of a series to its purge."""

import errno
import os
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, arrival, files, header, part10, quarantined_series, quarantined_series_of

from iscl_node.domain import Batch, SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.store import spool as spool_module
from iscl_node.store.spool import Spool

DERIVED = "2.25.99"

# Closing


def test_close_makes_a_batch_named_by_the_time(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW)
    assert batch == Batch(SERIES, "20261122T235959.123456Z")
    assert spool.closed_batches() == [batch]
    assert spool.instances(batch) == [spool.root / "closed/1.2.3/20261122T235959.123456Z/1.2.3.1.dcm"]


def test_what_is_missing_goes_with_the_batch_until_it_is_requeued(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW, "1 slice missing")
    assert spool.incomplete(batch) == "1 slice missing"
    assert [path.name for path in spool.instances(batch)] == ["1.2.3.1.dcm"]
    spool.quarantine(batch, "why")
    (requeued,) = spool.requeue(SERIES, NOW)
    assert spool.incomplete(requeued) == ""
    assert files(spool) == [f"closed/{SERIES}/{requeued.key}/1.2.3.1.dcm"]


def test_what_is_missing_is_noted_before_the_series_is_closed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.store(header(), part10(b"a"))
    noted = []
    move = spool_module.move_folder
    monkeypatch.setattr(
        spool_module,
        "move_folder",
        lambda source, target: (noted.extend(source.glob("*.txt")), move(source, target)),
    )
    spool.close(SERIES, NOW, "1 slice missing")
    assert [path.name for path in noted] == ["incomplete.txt"]


def test_only_the_owner_may_read_a_new_spool(tmp_path: Path) -> None:
    """It holds images, UIDs and Patient IDs; an older one keeps what its administrator gave it."""
    for root, made, mode in ((tmp_path / "a" / "spool", False, 0o700), (tmp_path / "shared", True, 0o750)):
        if made:
            root.mkdir()
            root.chmod(mode)
        Spool.open(root, 0)
        assert root.stat().st_mode & 0o777 == mode


def test_the_key_is_in_utc(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    local = NOW.astimezone(datetime.strptime("+0530", "%z").tzinfo)
    assert spool.close(SERIES, local).key == "20261122T235959.123456Z"


@pytest.mark.fault("spool", "an instance arrives after its series was closed", "it makes a further batch")
def test_a_late_instance_makes_a_further_batch(spool: Spool) -> None:
    batches = []
    for number in range(3):
        spool.store(header(f"1.2.3.{number}"), part10(b"a"))
        batches.append(spool.close(SERIES, NOW))
    assert len(set(batches)) == 3
    assert spool.closed_batches() == batches


def test_a_key_is_never_used_twice_in_any_state(spool: Spool) -> None:
    first = quarantined_series(spool)
    spool.store(header("1.2.3.2"), part10(b"a"))
    assert spool.close(SERIES, NOW) > first


@pytest.mark.fault(
    "machine",
    "the clock is set back between two batches of a series",
    "the later batch has the later key, and the derived series keeps its date and time",
)
def test_a_clock_set_back_does_not_change_the_order_of_batches(spool: Spool) -> None:
    batches = []
    for number, now in enumerate((NOW, NOW - timedelta(days=3650), NOW - timedelta(days=1))):
        spool.store(header(f"1.2.3.{number}"), part10(b"a"))
        batches.append(spool.close(SERIES, now))
    assert batches == sorted(set(batches))
    assert {spool.first_closed(batch) for batch in batches} == {NOW}


def test_a_series_that_is_not_open_cannot_be_closed(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.close(SERIES, NOW)


def test_a_series_is_quiet_after_quiet_seconds(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    newest = arrival(spool)
    assert spool.quiet_series(newest + 9.9, 10) == []
    assert spool.quiet_series(newest + 10.1, 10) == [SERIES]


@pytest.mark.parametrize("sop", ["1.2.3.1", "1.2.3.2"])
def test_a_new_instance_or_a_repetition_ends_the_quiet(spool: Spool, sop: str) -> None:
    spool.store(header(), part10(b"a"))
    os.utime(spool.root / "open" / SERIES, (1_000, 1_000))
    spool.store(header(sop), part10(b"a"))
    assert spool.quiet_series(arrival(spool) + 5, 10) == []
    assert arrival(spool) > 1_000


@pytest.mark.fault(
    "machine", "the clock is set back", "a series counts as quiet when the distance is larger than the quiet time"
)
def test_a_clock_set_back_does_not_hold_a_series_for_ever(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    newest = arrival(spool)
    assert spool.quiet_series(newest - 1, 10) == []
    assert spool.quiet_series(newest - 3_600, 10) == [SERIES]


def test_an_open_folder_without_instances_is_not_quiet(spool: Spool) -> None:
    (spool.root / "open" / SERIES).mkdir()
    assert spool.quiet_series(1e12, 10) == []


# Working on a batch


@pytest.fixture
def batch(spool: Spool) -> Batch:
    for number in (2, 1):
        spool.store(header(f"1.2.3.{number}"), part10(b"a"))
    return spool.close(SERIES, NOW)


def test_instances_are_found_wherever_the_batch_is(spool: Spool, batch: Batch) -> None:
    names = ["1.2.3.1.dcm", "1.2.3.2.dcm"]
    assert [path.name for path in spool.instances(batch)] == names
    spool.release(batch)
    assert [path.name for path in spool.instances(batch)] == names
    assert spool.instances(Batch("9.9", "none")) == []


def test_derived_instances_lie_in_the_outbox(spool: Spool, batch: Batch) -> None:
    assert spool.derived(batch, DERIVED) == []
    paths = [spool.write_derived(batch, DERIVED, f"2.25.{number}", b"derived") for number in (2, 1)]
    assert spool.derived(batch, DERIVED) == sorted(paths)
    assert paths[0] == spool.outbox(batch) / DERIVED / "2.25.2.dcm"
    assert spool.has_derived(batch, DERIVED, "2.25.1")
    assert not spool.has_derived(batch, DERIVED, "2.25.3")


def test_a_derived_instance_is_written_once(spool: Spool, batch: Batch) -> None:
    spool.write_derived(batch, DERIVED, "2.25.1", b"derived")
    path = spool.write_derived(batch, DERIVED, "2.25.1", b"derived again, later")
    assert path.read_bytes() == b"derived"


@pytest.mark.fault(
    "spool", "a kill while a derived instance is written", "it does not count as there; it can be written again"
)
def test_a_half_written_derived_instance_is_none(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(source: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            spool.write_derived(batch, DERIVED, "2.25.1", b"derived")
    assert not spool.has_derived(batch, DERIVED, "2.25.1")
    assert spool.derived(batch, DERIVED) == []
    spool.write_derived(batch, DERIVED, "2.25.1", b"derived")
    assert [path.name for path in spool.derived(batch, DERIVED)] == ["2.25.1.dcm"]


@pytest.mark.fault(
    "spool", "the disk is full when a derived instance is written", "tried again later, and nothing left behind"
)
def test_a_full_disk_puts_the_derived_instance_off(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RetryLaterError, match="No space left"):
        spool.write_derived(batch, DERIVED, "2.25.1", b"derived")
    assert list((spool.outbox(batch) / DERIVED).iterdir()) == []


def test_a_derived_uid_that_is_none_is_a_programming_error(spool: Spool, batch: Batch) -> None:
    with pytest.raises(ValueError, match="not a UID"):
        spool.write_derived(batch, DERIVED, "../1", b"derived")
    with pytest.raises(ValueError, match="not a UID"):
        spool.write_derived(batch, "..", "2.25.1", b"derived")


def test_first_closed_is_the_oldest_batch_of_the_series_that_a_person_need_not_see(spool: Spool) -> None:
    quarantined_series(spool)
    batches = []
    for minutes in (1, 2):
        spool.store(header(f"1.2.3.{minutes}"), part10(b"a"))
        batches.append(spool.close(SERIES, NOW + timedelta(minutes=minutes)))
    spool.release(batches[0])
    assert [spool.first_closed(batch) for batch in batches] == [NOW + timedelta(minutes=1)] * 2


# Ends of a batch


def test_release_keeps_the_source_and_what_was_derived(spool: Spool, batch: Batch) -> None:
    (derived,) = [spool.write_derived(batch, DERIVED, "2.25.1", b"derived")]
    spool.release(batch)
    key, kept = batch.key, str(derived.relative_to(spool.root))
    assert files(spool) == [f"done/1.2.3/{key}/1.2.3.1.dcm", f"done/1.2.3/{key}/1.2.3.2.dcm", kept]
    assert not (spool.root / "closed" / SERIES).exists()


@pytest.mark.fault(
    "machine",
    "the node is killed while a batch goes to quarantine or is deleted",
    "the next start removes what is left in the outbox",
)
def test_recovery_removes_an_outbox_whose_batch_is_gone(spool: Spool, batch: Batch) -> None:
    spool.quarantine(batch, "why")
    spool.write_derived(batch, DERIVED, "2.25.1", b"left over")
    spool.recover()
    assert not (spool.root / "outbox" / SERIES).exists()


def test_quarantine_keeps_the_source_with_the_reason(spool: Spool, batch: Batch) -> None:
    spool.write_derived(batch, DERIVED, "2.25.1", b"derived")
    spool.quarantine(batch, "slice 7 is missing — see the scanner")
    (quarantined,) = spool.quarantined()
    assert quarantined.batch == batch
    assert quarantined.reason == "slice 7 is missing — see the scanner"
    assert sorted(path.name for path in quarantined.folder.iterdir()) == ["1.2.3.1.dcm", "1.2.3.2.dcm", "reason.txt"]
    assert spool.derived(batch, DERIVED) == []


def test_ends_may_be_repeated(spool: Spool, batch: Batch) -> None:
    spool.release(batch)
    before = files(spool)
    spool.release(batch)
    assert files(spool) == before
    other = quarantined_series_of(spool, "1.2.5")
    before = files(spool)
    spool.quarantine(other, "why")
    assert files(spool) == before


@pytest.mark.parametrize("end", ["release", "quarantine"])
@pytest.mark.fault(
    "spool",
    "a kill before a batch is moved to its end",
    "it stays closed with all its instances; the end can be repeated",
)
def test_a_kill_before_the_move_leaves_the_batch_closed(
    spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    def finish() -> None:
        spool.release(batch) if end == "release" else spool.quarantine(batch, "why")

    def killed(source: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            finish()
    assert spool.closed_batches() == [batch]
    assert len(spool.instances(batch)) == 2
    finish()
    assert spool.closed_batches() == []
    assert len(spool.instances(batch)) == 2


def test_ends_of_an_unknown_batch_are_errors(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.release(Batch("9.9", "none"))
    with pytest.raises(FileNotFoundError):
        spool.quarantine(Batch("9.9", "none"), "why")


@pytest.mark.fault("spool", "the disk is full when a batch goes to quarantine", "it goes there without the reason")
def test_a_full_disk_does_not_keep_a_batch_from_quarantine(
    spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    spool.quarantine(batch, "why")
    assert [q.reason for q in spool.quarantined()] == ["no reason was recorded"]


def test_an_ignored_batch_keeps_its_reason_until_it_is_requeued(spool: Spool, batch: Batch) -> None:
    for _ in range(2):  # the second as after a crash
        spool.ignore(batch, "too few slices")
    assert [(each.batch, each.reason) for each in spool.ignored()] == [(batch, "too few slices")]
    assert (spool.quarantined(), spool.closed_batches()) == ([], [])
    (requeued,) = spool.requeue(SERIES, NOW + timedelta(days=1))
    assert files(spool) == [f"closed/{SERIES}/{requeued.key}/1.2.3.{number}.dcm" for number in (1, 2)]


def test_instances_of_a_series_are_counted_in_all_batches(spool: Spool, batch: Batch) -> None:
    assert spool.instance_count(SERIES) == 2
    spool.release(batch)
    spool.store(header("1.2.3.9"), part10(b"a"))
    assert spool.instance_count(SERIES) == 2
    spool.close(SERIES, NOW)
    assert spool.instance_count(SERIES) == 3
    assert spool.instance_count("9.9") == 0


def test_an_instance_that_was_sent_again_is_counted_once(spool: Spool, batch: Batch) -> None:
    """What is set aside is not compared, so the same instances make a batch again."""
    spool.ignore(batch, "too few slices")
    for path in list(spool.instances(batch)):
        spool.store(header(path.stem), part10(b"a"))
    again = spool.close(SERIES, NOW + timedelta(seconds=1))
    assert [path.name for path in spool.instances(again)] == [path.name for path in spool.instances(batch)]
    assert spool.instance_count(SERIES) == 2


def test_a_requeued_batch_is_a_new_one(spool: Spool) -> None:
    old = quarantined_series(spool)
    (new,) = spool.requeue(SERIES, NOW + timedelta(days=1))
    assert new == Batch(SERIES, "20261123T235959.123456Z")
    assert new.workflow_id != old.workflow_id
    assert spool.closed_batches() == [new]
    assert files(spool) == [f"closed/1.2.3/{new.key}/1.2.3.1.dcm"]
    assert spool.requeue(SERIES, NOW) == []


def test_requeue_at_the_same_instant_still_gives_a_new_key(spool: Spool) -> None:
    old = quarantined_series(spool)
    assert spool.requeue(SERIES, NOW)[0].key > old.key


def test_requeue_leaves_conflicts_and_other_series(spool: Spool) -> None:
    quarantined_series_of(spool, "1.2.5")
    spool.store(header(), part10(b"a"))
    spool.store(header(), part10(b"b"))
    assert spool.requeue(SERIES, NOW) == []
    assert spool.requeue("../1.2.5", NOW) == []
    assert [q.batch.series_instance_uid for q in spool.quarantined()] == [SERIES, "1.2.5"]


@pytest.mark.fault(
    "spool",
    "a series in quarantine is sent again with other bytes, and the first is requeued",
    "it stays in quarantine: its derived instances would have the UIDs of the second's",
)
@pytest.mark.parametrize("state", [SeriesState.OPEN, SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE])
@pytest.mark.parametrize("data", [b"a", b"b"], ids=["same bytes", "other bytes"])
def test_what_another_data_set_was_processed_of_is_not_requeued(spool: Spool, state: SeriesState, data: bytes) -> None:
    spool.store(header(), part10(b"a"))
    spool.quarantine(spool.close(SERIES, NOW), "reason")
    spool.store(header(), part10(data))
    if state is not SeriesState.OPEN:
        second = spool.close(SERIES, NOW + timedelta(hours=1))
        folder = spool.root / state.value / SERIES
        folder.mkdir(exist_ok=True)
        (spool.root / "closed" / SERIES / second.key).rename(folder / second.key)
    assert bool(spool.requeue(SERIES, NOW + timedelta(days=1))) is (data == b"a")


def test_a_reason_left_by_a_kill_in_a_requeue_does_no_harm(spool: Spool) -> None:
    quarantined_series(spool, "old reason")
    (new,) = spool.requeue(SERIES, NOW)
    (spool.root / "closed" / SERIES / new.key / "reason.txt").write_text("old reason")
    assert [path.suffix for path in spool.instances(new)] == [".dcm"]
    spool.quarantine(new, "new reason")
    assert [q.reason for q in spool.quarantined()] == ["new reason"]


# Looking


def test_counts(spool: Spool) -> None:
    assert spool.counts() == dict.fromkeys(SeriesState, 0)
    quarantined_series_of(spool, "1.2.5")
    spool.store(header(series="1.2.6"), part10(b"a"))
    spool.release(spool.close("1.2.6", NOW))
    for number in range(2):
        spool.store(header(f"1.2.7.{number}", "1.2.7"), part10(b"a"))
        spool.close("1.2.7", NOW)
    spool.store(header(), part10(b"a"))
    assert spool.counts() == {
        SeriesState.OPEN: 1,
        SeriesState.CLOSED: 2,
        SeriesState.SENT: 0,
        SeriesState.DONE: 1,
        SeriesState.IGNORED: 0,
        SeriesState.QUARANTINE: 1,
    }


def test_oldest_waiting(spool: Spool) -> None:
    assert spool.oldest_waiting(NOW.timestamp()) == 0.0
    spool.store(header(), part10(b"a"))
    assert spool.oldest_waiting(arrival(spool) + 7) == pytest.approx(7, abs=1e-3)
    spool.close(SERIES, NOW)
    assert spool.oldest_waiting(NOW.timestamp() + 60) == pytest.approx(60, abs=1e-3)
    assert spool.oldest_waiting(NOW.timestamp() - 60) == 0.0


def test_what_is_in_quarantine_tells_since_when_and_how_much(spool: Spool) -> None:
    assert spool.oldest_in(SeriesState.QUARANTINE, 1e12) == 0.0
    batch = quarantined_series(spool)
    folder = spool.root / "quarantine" / SERIES / batch.key
    os.utime(folder, (1_000, 1_000))
    quarantined_series_of(spool, "1.2.5")
    each = spool.quarantined()[0]
    assert (each.since, each.files, each.size_bytes) == (1_000, 2, len(part10(b"a")) + len(b"why\n"))
    assert spool.oldest_in(SeriesState.QUARANTINE, 1_007) == 7.0
    assert spool.oldest_in(SeriesState.QUARANTINE, 900) == 0.0


def test_a_spool_that_was_never_opened_is_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "none", 0)
    assert spool.counts() == dict.fromkeys(SeriesState, 0)
    assert (spool.closed_batches(), spool.quarantined(), spool.oldest_waiting(0.0)) == ([], [], 0.0)


def move_there_and_back(one: Path, other: Path, stop: threading.Event) -> None:
    while not stop.is_set():
        one.rename(other)
        other.rename(one)


@pytest.mark.fault("spool", "batches move while the spool is measured", "what stays is seen, and no task fails")
def test_looking_bears_that_batches_move(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    moving = spool.root / "closed" / SERIES / spool.close(SERIES, NOW).key
    spool.store(header("1.2.3.2"), part10(b"a"))
    staying = spool.close(SERIES, NOW)
    stop = threading.Event()
    mover = threading.Thread(target=move_there_and_back, args=(moving, spool.root / "done" / "moved", stop))
    mover.start()
    try:
        for _ in range(2000):
            assert staying in spool.closed_batches()
            assert spool.instance_count(SERIES) >= 1
    finally:
        stop.set()
        mover.join()


def test_a_batch_that_is_further_on_is_not_marked_as_sent(spool: Spool) -> None:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW)
    for _ in range(2):  # as after a power cut that undid the record of the step
        spool.mark_sent(batch)
    spool.release(batch)
    spool.mark_sent(batch)
    assert spool.counts()[SeriesState.DONE] == 1
    assert not spool.is_sent(batch)


def test_a_batch_that_is_gone_is_not_marked_as_sent(spool: Spool) -> None:
    with pytest.raises(FileNotFoundError):
        spool.mark_sent(Batch(SERIES, "20261122T235959.123456Z"))
