"""Closing, purging and measuring, tick by tick."""

import os
import threading
import time
from datetime import UTC, datetime

import pytest
from factories import ct_dataset, part10
from structlog.testing import capture_logs

from iscl_node.dicom.header import read_header
from iscl_node.domain import Batch
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.closing import SeriesCloser
from iscl_node.pipeline.housekeeping import Housekeeping
from iscl_node.store.spool import Spool


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
    return SeriesCloser(spool, quiet_seconds, workflows.enqueue)


def housekeeping(spool: Spool, workflows: Workflows, metrics: Metrics, retention_seconds: float = 3600) -> Housekeeping:
    return Housekeeping(spool, closer(spool, workflows), metrics, retention_seconds)


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

    housekeeping(spool, workflows, metrics, retention_seconds).tick()

    assert gauge(metrics, "spool_batches", state="done") == left


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), RetryLaterError("the database is full")])
def test_a_disk_that_fails_is_logged_and_the_next_tick_tries_again(
    spool: Spool, workflows: Workflows, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    recovered = threading.Event()
    results = iter([fault])
    keeping = housekeeping(spool, workflows, metrics)

    def tick() -> None:
        result = next(results, None)
        if result is not None:
            raise result
        recovered.set()

    monkeypatch.setattr(keeping, "tick", tick)
    monkeypatch.setattr("iscl_node.pipeline.housekeeping._TICK_SECONDS", 0.001)
    with capture_logs() as logs:
        keeping.start()
        assert recovered.wait(30)
        keeping.stop()

    assert [entry["event"] for entry in logs] == ["housekeeping.failed"]
