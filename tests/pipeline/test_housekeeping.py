"""Closing, purging and measuring, tick by tick."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from factories import ct_dataset, part10
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Batch, SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.housekeeping import Housekeeping
from iscl_node.pipeline.reception.closing import SeriesCloser
from iscl_node.pipeline.reception.completeness import Completeness
from iscl_node.pipeline.reception.peer_lists import PeerListings
from iscl_node.store.leaving.retention import Retention, RetentionLimits
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.spool import Spool

AN_HOUR = RetentionLimits(3600)


class Workflows:
    """Notes which batches were enqueued."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def enqueue(self, batch: Batch) -> None:
        self.batches.append(batch)


@pytest.fixture
def workflows() -> Workflows:
    return Workflows()


def closer(spool: Spool, workflows: Workflows, quiet_seconds: float = 0) -> SeriesCloser:
    metrics = Metrics(CollectorRegistry())
    listings = PeerListings({}, failing(NotImplementedError()), failing(NotImplementedError()))
    completeness = Completeness(OpenSeries(spool.root), (), quiet_seconds, listings, metrics)
    return SeriesCloser(spool, quiet_seconds, completeness, workflows.enqueue, metrics)


def housekeeping(
    spool: Spool,
    workflows: Workflows,
    metrics: Metrics,
    limits: RetentionLimits = AN_HOUR,
    delete_ended: Callable[[], int] = lambda: 0,
) -> Housekeeping:
    retention = Retention(spool.root, limits)
    return Housekeeping(spool, closer(spool, workflows), metrics, retention, delete_ended, lambda: None)


def failing(fault: Exception) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise fault

    return fail


def receive(spool: Spool) -> None:
    data = part10(ct_dataset())
    spool.store(read_header(data), data)


def gauge(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"iscl_node_{name}", labels)


def test_a_quiet_series_is_closed_and_enqueued_once(spool: Spool, workflows: Workflows) -> None:
    receive(spool)
    ticking = closer(spool, workflows)

    ticking.tick()
    ticking.tick()

    assert workflows.batches == spool.closed_batches()
    assert len(workflows.batches) == 1


def test_a_series_that_still_arrives_stays_open(spool: Spool, workflows: Workflows) -> None:
    receive(spool)
    closer(spool, workflows, quiet_seconds=3600).tick()
    assert workflows.batches == []
    assert spool.closed_batches() == []


@pytest.mark.fault(
    "machine",
    "the node stops between closing a series and starting its workflow",
    "what is closed on disk is enqueued at the next start",
)
def test_a_restarted_node_enqueues_what_is_closed_on_disk(spool: Spool, workflows: Workflows) -> None:
    receive(spool)
    closer(spool, workflows).tick()
    closer(spool, workflows).tick()
    assert len(workflows.batches) == 2
    assert len(set(workflows.batches)) == 1


def test_a_tick_measures_the_spool(spool: Spool, workflows: Workflows, metrics: Metrics) -> None:
    receive(spool)
    housekeeping(spool, workflows, metrics).tick()
    assert gauge(metrics, "spool_batches", state="closed") == 1
    assert gauge(metrics, "spool_batches", state="quarantine") == 0
    assert gauge(metrics, "oldest_waiting_seconds") is not None
    assert (gauge(metrics, "spool_free_bytes") or 0) > 0


@pytest.mark.parametrize(("retention_seconds", "left"), [(3600, 1), (0, 0)], ids=["kept", "purged"])
def test_a_delivered_batch_is_kept_for_its_retention_time(
    spool: Spool, workflows: Workflows, metrics: Metrics, retention_seconds: float, left: int
) -> None:
    receive(spool)
    batch = spool.close(spool.quiet_series(time.time(), 0)[0], datetime.now(UTC))
    spool.release(batch)
    for folder in spool.root.glob("done/*/*"):
        os.utime(folder, (time.time() - 60, time.time() - 60))

    keeping = housekeeping(spool, workflows, metrics, RetentionLimits(retention_seconds))
    keeping.clean_up()

    assert spool.counts()[SeriesState.DONE] == left
    assert (gauge(metrics, "purged_batches_total", cause="age") or 0) == 1 - left


def test_a_spool_that_holds_too_much_makes_room(spool: Spool, workflows: Workflows, metrics: Metrics) -> None:
    receive(spool)
    spool.release(spool.close(spool.quiet_series(time.time(), 0)[0], datetime.now(UTC)))
    housekeeping(spool, workflows, metrics, RetentionLimits(3600, max_bytes=1)).clean_up()
    assert spool.counts()[SeriesState.DONE] == 0
    assert gauge(metrics, "purged_batches_total", cause="space") == 1


def test_it_is_told_how_much_is_in_quarantine_and_since_when(
    spool: Spool, workflows: Workflows, metrics: Metrics
) -> None:
    receive(spool)
    spool.quarantine(spool.close(spool.quiet_series(time.time(), 0)[0], datetime.now(UTC)), "why")
    (each,) = spool.quarantined()
    os.utime(each.folder, (time.time() - 3600, time.time() - 3600))
    keeping = housekeeping(spool, workflows, metrics)
    keeping.tick()
    keeping.clean_up()
    assert gauge(metrics, "spool_bytes", folder="quarantine") == each.size_bytes
    assert gauge(metrics, "spool_bytes", folder="open") == 0
    assert gauge(metrics, "quarantine_oldest_seconds") == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OSError(5, "Input/output error", "1.2.3.dcm"), "Input/output error"),
        (RetryLaterError("the database is full"), "the database is full"),
        (KeyError("unforeseen"), "KeyError"),
    ],
)
@pytest.mark.fault(
    "machine",
    "a task of housekeeping fails, on the disk or in the database",
    "counted, logged once; the other tasks go on",
)
def test_a_fault_is_counted_and_logged_once_and_the_other_tasks_go_on(
    spool: Spool,
    workflows: Workflows,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    told: str,
) -> None:
    receive(spool)
    keeping = housekeeping(spool, workflows, metrics, delete_ended=failing(fault))
    monkeypatch.setattr(keeping._retention, "make_room", failing(fault))
    with capture_logs() as logs:
        for _ in range(2):
            keeping.tick()
            keeping.clean_up()
    failed = [(entry["task"], entry["fault"]) for entry in logs if entry["event"] == "housekeeping.failed"]
    assert failed == [("free_space", told), ("sizes", told), ("delete_ended_workflows", told)]
    assert gauge(metrics, "housekeeping_faults_total", task="delete_ended_workflows") == 2
    assert len(workflows.batches) == 1
    assert gauge(metrics, "spool_batches", state="closed") == 1


@pytest.mark.fault(
    "machine",
    "the clock is set ten years ahead while a series arrives, and back again",
    "nothing undelivered is deleted; the series is closed early, and what still arrives makes a further batch",
)
def test_a_clock_that_jumps_loses_nothing(
    spool: Spool, workflows: Workflows, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = Retention(spool.root, AN_HOUR)
    closing = closer(spool, workflows, quiet_seconds=60)
    keeping = Housekeeping(spool, closing, metrics, retention, lambda: 0, lambda: None)
    ten_years_ahead = time.time() + 10 * 365 * 86400
    receive(spool)
    keeping.tick()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: ten_years_ahead)
        before = spool.counts()
        keeping.tick()
        keeping.clean_up()
    late = part10(ct_dataset(SOPInstanceUID="1.2.3.4"))
    spool.store(read_header(late), late)
    keeping.tick()
    keeping.clean_up()
    assert (before[SeriesState.OPEN], before[SeriesState.CLOSED]) == (1, 0)
    assert (spool.counts()[SeriesState.OPEN], spool.counts()[SeriesState.CLOSED]) == (1, 1)
    assert len(workflows.batches) == 1


@pytest.mark.fault(
    "machine",
    "series cannot be closed because the disk is full",
    "it is logged, and no tick counts; then the node is ready again by itself",
)
def test_the_node_is_ready_again_when_series_can_be_closed_again(
    spool: Spool, workflows: Workflows, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = housekeeping(spool, workflows, metrics)
    keeping.last_tick = 0.0
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(keeping._closer, "tick", failing(OSError(28, "No space left on device")))
        keeping.tick()
    assert keeping.last_tick == 0.0
    with capture_logs() as logs_after:
        keeping.tick()
    assert keeping.last_tick > 0.0
    assert [entry["event"] for entry in [*logs, *logs_after]] == ["housekeeping.failed", "housekeeping.recovered"]


@pytest.mark.fault("machine", "housekeeping meets unforeseen exceptions", "its thread goes on")
def test_the_thread_outlives_every_fault(
    spool: Spool, workflows: Workflows, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([OSError(5, "Input/output error"), KeyError("unforeseen"), ZeroDivisionError()])
    recovered = threading.Event()

    def tick() -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        recovered.set()

    monkeypatch.setattr("iscl_node.pipeline.housekeeping._TICK_SECONDS", 0.001)
    keeping = housekeeping(spool, workflows, metrics)
    monkeypatch.setattr(keeping._closer, "tick", tick)
    keeping.start()
    assert recovered.wait(30)
    keeping.stop()
    assert gauge(metrics, "housekeeping_faults_total", task="close") == 3


def test_what_is_no_batch_is_logged_when_it_changes_and_without_its_name(spool: Spool, workflows: Workflows) -> None:
    keeping = housekeeping(spool, workflows, Metrics(CollectorRegistry()))
    (spool.root / "done" / "Mustermann").mkdir()
    with capture_logs() as lines:
        for _ in range(2):
            keeping.clean_up()
        (spool.root / "done" / "Mustermann").rmdir()
        keeping.clean_up()
    (line,) = [line for line in lines if line["event"] == "spool.strays_found"]
    assert line["done"] == 1
    assert "Mustermann" not in str(lines)


def test_what_is_promised_is_made_room_for(spool: Spool, workflows: Workflows, metrics: Metrics) -> None:
    receive(spool)
    keeping = housekeeping(spool, workflows, metrics)
    keeping.tick()
    spool.release(*workflows.batches)
    keeping.clean_up()
    spool.room.note_received(1)
    keeping.tick()
    assert gauge(metrics, "spool_batches", state="done") == 1
    spool.room._promised = 1 << 60
    keeping.tick()
    assert gauge(metrics, "spool_batches", state="done") == 0


def test_a_batch_that_cannot_be_begun_holds_up_no_other(spool: Spool, metrics: Metrics) -> None:
    class Refusing(Workflows):
        def enqueue(self, batch: Batch) -> None:
            super().enqueue(batch)
            if batch == min(self.batches):
                raise OSError(5, "Input/output error")

    refusing = Refusing()
    for number in (1, 2):
        data = part10(ct_dataset(SeriesInstanceUID=f"1.2.{number}", SOPInstanceUID=f"1.3.{number}"))
        spool.store(read_header(data), data)
    keeping = housekeeping(spool, refusing, metrics)
    keeping.tick()
    keeping.tick()
    first, second = spool.closed_batches()
    assert refusing.batches == [first, second, first]
    assert gauge(metrics, "housekeeping_faults_total", task="close") == 2


def test_what_waits_and_what_a_person_must_decide_is_measured(
    spool: Spool, workflows: Workflows, metrics: Metrics
) -> None:
    receive(spool)
    keeping = housekeeping(spool, workflows, metrics)
    keeping.tick()
    keeping.clean_up()
    (batch,) = spool.closed_batches()
    waiting = len(spool.instances(batch))
    assert gauge(metrics, "waiting_instances") == waiting > 0
    spool.quarantine(batch, "2 patients in one series: Patient ID differs")
    keeping.clean_up()
    assert gauge(metrics, "waiting_instances") == 0
    assert gauge(metrics, "quarantine_batches", reason="identity") == 1
    assert gauge(metrics, "quarantine_batches", reason="judge") == 0


class BusyClock:
    """Clocks of a machine on which a look through the spool takes a second."""

    def __init__(self) -> None:
        self.now, self.used = 1_000.0, 0.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def thread_time(self) -> float:
        self.used += 1
        return self.used


def test_a_spool_that_takes_long_to_look_through_is_looked_through_rarely(
    spool: Spool, workflows: Workflows, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = BusyClock()
    monkeypatch.setattr("iscl_node.pipeline.housekeeping.time", clock)
    keeping = housekeeping(spool, workflows, metrics)
    keeping.tick()
    receive(spool)
    clock.now += 60
    keeping.tick()
    assert gauge(metrics, "spool_batches", state="closed") == 0
    assert len(workflows.batches) == 1  # nothing else is put off
    clock.now += 200
    keeping.tick()
    assert gauge(metrics, "spool_batches", state="closed") == 1
