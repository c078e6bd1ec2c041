"""Space for what will be made: reserved when it is received for, and given to one series after the other when short."""

import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest
from spool_contents import NOW, header, part10

from iscl_node.domain import Arrival, Batch
from iscl_node.errors import RejectInstanceError, RetryLaterError
from iscl_node.store.leaving.retention import Retention, RetentionLimits
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.plan import keep_plan
from iscl_node.store.spool import Spool

Usage = namedtuple("Usage", "total used free")
SIZE = 10_000
FILE = len(part10(bytes(SIZE)))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    disk = {"free": 1 << 40}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, disk["free"]))
    return disk


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """One whose derived objects take twice the bytes of what is received."""
    return Spool.open(tmp_path / "spool", min_free_bytes=1_000, derived_per_received=2)


def receive(spool: Spool, series: str, number: int = 1) -> Arrival:
    return spool.store(header(f"{series}.{number}", series), part10(bytes(SIZE)))


def closed(spool: Spool, series: str, expected_bytes: int = 0) -> Batch:
    receive(spool, series)
    batch = spool.close(series, NOW)
    if expected_bytes:
        keep_plan(spool.root, batch, {"expected_bytes": expected_bytes})
    return batch


@pytest.mark.fault(
    "spool",
    "what was accepted will need more space than the disk has",
    "0xA700 for what arrives, as long as the derived objects of what was accepted before would not fit",
)
def test_nothing_is_accepted_without_room_for_what_is_made_of_the_earlier(spool: Spool, free: dict[str, int]) -> None:
    receive(spool, "1.2.3")
    free["free"] = 1_000 + 3 * FILE - 1
    with pytest.raises(RejectInstanceError) as rejected:
        receive(spool, "1.2.3", 2)
    assert rejected.value.status == 0xA700
    free["free"] += 1
    assert receive(spool, "1.2.3", 2) is Arrival.NEW


def test_the_promise_is_measured_and_ends_when_all_is_made(spool: Spool) -> None:
    assert spool.room.measure() == 0
    receive(spool, "1.2.3")
    assert spool.room.promised_bytes == spool.room.measure() == 2 * FILE
    batch = closed(spool, "1.2.4", expected_bytes=50_000)
    assert spool.room.measure() == 2 * FILE + 50_000
    spool.write_derived(batch, "2.25.1", "2.25.2", bytes(20_000))
    assert spool.room.measure() == 2 * FILE + 30_000
    Deliveries(spool.root).begin(batch, ["pacs"])
    assert spool.room.measure() == 2 * FILE
    assert Spool(spool.root, 0).room.measure() == 0


def test_a_batch_without_a_plan_is_estimated(spool: Spool) -> None:
    batch = closed(spool, "1.2.3")
    assert spool.room.measure() == 2 * FILE
    keep_plan(spool.root, batch, {"files": []})
    assert spool.room.measure() >= 2 * FILE


@pytest.mark.fault(
    "spool",
    "the disk has no room for the derived objects of all series that are to be made",
    "one series after the other is made; the others wait",
)
def test_when_space_is_short_one_series_after_the_other_is_made(spool: Spool, free: dict[str, int]) -> None:
    first, second, third = (closed(spool, f"1.2.{number}", 50_000) for number in (3, 4, 5))
    free["free"] = (1 << 20) + 110_000  # a MiB is kept for records
    spool.room.admit(first)
    spool.room.admit(second)
    with pytest.raises(RetryLaterError, match="finished first"):
        spool.room.admit(third)
    spool.room.admit(first)
    assert not spool.outbox(third).exists()
    restarted = Spool.open(spool.root, 1_000)
    restarted.room.admit(second)
    with pytest.raises(RetryLaterError):
        restarted.room.admit(third)
    Deliveries(spool.root).begin(first, ["pacs"])
    spool.room.admit(third)


def test_a_series_that_is_alone_is_made_however_little_space_there_is(spool: Spool, free: dict[str, int]) -> None:
    first, second = closed(spool, "1.2.3", 50_000), closed(spool, "1.2.4", 50_000)
    free["free"] = 10
    spool.room.admit(first)
    with pytest.raises(RetryLaterError):
        spool.room.admit(second)
    Deliveries(spool.root).begin(first, ["pacs"])
    spool.room.admit(second)


@pytest.mark.fault(
    "spool",
    "space is short, and a series that was started is not continued: eight others have its place, after an upgrade",
    "the others wait for it for ten minutes, then the next one is made",
)
def test_a_series_that_nobody_goes_on_with_holds_up_the_others_for_a_while(
    spool: Spool, free: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    begun, second, third = (closed(spool, f"1.2.{number}", 50_000) for number in (3, 4, 5))
    free["free"] = 10
    with spool.room.made_here(begun):
        spool.room.admit(begun)
        now += 1_000
        with pytest.raises(RetryLaterError):
            spool.room.admit(second)
    now += 599
    with pytest.raises(RetryLaterError):
        spool.room.admit(second)
    now += 1
    spool.room.admit(second)
    with pytest.raises(RetryLaterError):
        spool.room.admit(third)


@pytest.mark.fault(
    "spool",
    "the disk does not give back the record of one batch",
    "no other waits for it: neither to be made, nor to be started or brought to its end",
)
def test_a_record_that_cannot_be_read_holds_up_no_other(spool: Spool, free: dict[str, int]) -> None:
    broken, other = closed(spool, "1.2.3", 50_000), closed(spool, "1.2.4", 50_000)
    spool.room.admit(broken)
    for name in ("destinations", "plan"):
        path = spool.root / "closed" / "1.2.3" / broken.key / f"{broken.key}.{name}.json"
        path.unlink(missing_ok=True)
        path.mkdir()
    free["free"] = 10
    spool.room.measure()
    spool.room.admit(other)


def test_an_outbox_whose_series_goes_at_this_moment_is_made_later(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Path) -> None:
        raise FileNotFoundError

    batch = closed(spool, "1.2.3")
    monkeypatch.setattr("iscl_node.store.receiving.free_space.make_folder", gone)
    with pytest.raises(RetryLaterError, match="comes to its end"):
        spool.room.admit(batch)


@pytest.mark.fault(
    "spool",
    "a series is received that needs more than the reserve, and delivered batches fill the disk",
    "the oldest delivered batches go, and it is received",
)
def test_delivered_batches_go_for_what_is_received(spool: Spool, free: dict[str, int]) -> None:
    delivered = closed(spool, "1.2.3")
    spool.release(delivered)
    receive(spool, "1.2.4")
    spool.room.measure()
    free["free"] = 3_000
    with pytest.raises(RejectInstanceError):
        receive(spool, "1.2.4", 2)
    keeping = Retention(spool.root, RetentionLimits(1e9, free_bytes=2_000))
    assert keeping.make_room() == 0
    assert keeping.make_room(promised_bytes=spool.room.promised_bytes) == 1
