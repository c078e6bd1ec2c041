"""Steps that are put off: who waits for what is told, and counted by destination."""

from datetime import UTC, datetime

import pytest
from factories import ct_dataset, part10

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Batch
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.workflows.trying import Trying
from iscl_node.retry import Backoff
from iscl_node.store.listing import Listing
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.waits import Wait, Waits
from iscl_node.store.spool import Spool

PACE = Backoff(0.01, 0.01)


@pytest.fixture
def batch(spool: Spool) -> Batch:
    data = part10(ct_dataset())
    header = read_header(data)
    spool.store(header, data)
    batch = spool.close(header.series_instance_uid, datetime.now(UTC))
    Deliveries(spool.root).begin(batch, ["pacs"])
    return batch


def told(spool: Spool, batch: Batch, name: str) -> Wait | None:
    (listed,) = Listing(spool.root).series(batch.series_instance_uid)
    return listed.deliveries[0].wait if name == "send" else listed.wait


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"iscl_node_{name}", {"peer": "pacs"})


@pytest.mark.parametrize("name", ["send", "derive"])
def test_a_step_that_is_put_off_says_why_until_it_is_tried_again(
    spool: Spool, batch: Batch, metrics: Metrics, name: str
) -> None:
    refusals = ["no connection", "no connection", ""]
    seen: list[Wait | None] = []

    def work(*_: object) -> None:
        seen.append(told(spool, batch, name))
        if reason := refusals.pop(0):
            raise RetryLaterError(reason)

    class Looking(Shutdown):
        def wait(self, seconds: float) -> None:
            seen.append(told(spool, batch, name))
            super().wait(seconds)

    Waits(spool.root).note(batch, "pacs" if name == "send" else "", Wait("of an earlier process", 0))
    Trying(Looking(), metrics, PACE, Waits(spool.root)).tried(name, work)(batch, "pacs")
    assert [each and each.reason for each in seen] == [None, "no connection", None, "no connection", None]
    assert value(metrics, "destination_retries_total") == (2 if name == "send" else None)
    assert value(metrics, "destination_up") == (1 if name == "send" else None)


def test_a_destination_that_is_tried_again_is_down(spool: Spool, batch: Batch, metrics: Metrics) -> None:
    ups: list[float | None] = []

    class Looking(Shutdown):
        def wait(self, seconds: float) -> None:
            ups.append(value(metrics, "destination_up"))

    tries = iter([RetryLaterError("no connection"), None])

    def work(*_: object) -> None:
        if (error := next(tries)) is not None:
            raise error

    Trying(Looking(), metrics, PACE).tried("ask", work)(batch, "pacs")
    assert (ups, value(metrics, "destination_up")) == ([0], 1)
