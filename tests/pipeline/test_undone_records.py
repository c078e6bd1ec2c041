"""Workflows that run again though their batch has ended, as after a power cut or with a restored database."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dbos import DBOS
from factories import ct_dataset, part10
from test_workflow import PATIENCE_SECONDS, the_workflow

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Batch, Peer, SeriesState, StoreAnswer
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.ask import Asking
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.delivery.send import Sending
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.words import enqueue
from iscl_node.pipeline.workflows.batch import CONFIRMATIONS, QUEUES, REPORTS, STEP_ORDER_VERSION, SeriesWorkflow
from iscl_node.retry import Backoff
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

PACS = Peer("pacs", "PACS", "127.0.0.1", 104)
A_DAY = 86_400.0


@pytest.fixture
def contacts() -> list[object]:
    return []


@pytest.fixture
def series_workflow(
    spool: Spool, metrics: Metrics, contacts: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SeriesWorkflow]:
    def send(_peer: Peer, files: Sequence[Path], _answered: Callable[[StoreAnswer], object]) -> None:
        contacts.extend(files)

    def ask(*arguments: object) -> None:
        contacts.append(arguments)

    deliveries = Deliveries(spool.root)
    destinations = Destinations(spool, deliveries, {PACS.name: PACS})
    deadline = Deadline(deliveries, lambda: 0.0, 0)
    series_workflow = the_workflow()
    monkeypatch.setattr(series_workflow._trying, "_shutdown", Shutdown())
    monkeypatch.setattr(series_workflow, "_sending", Sending(destinations, send, deadline))
    monkeypatch.setattr(series_workflow, "_asking", Asking(destinations, ask, ask, deadline, A_DAY))  # type: ignore[arg-type]
    concluding = Concluding(destinations, deadline, Backoff(1, 1), A_DAY, metrics)
    monkeypatch.setattr(series_workflow, "_concluding", concluding)
    launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", STEP_ORDER_VERSION, QUEUES)
    yield series_workflow
    stop_engine(PATIENCE_SECONDS)


@pytest.fixture
def done(spool: Spool) -> Batch:
    data = part10(ct_dataset())
    header = read_header(data)
    spool.store(header, data)
    batch = spool.close(header.series_instance_uid, datetime.now(UTC))
    spool.mark_sent(batch)
    spool.release(batch)
    return batch


@pytest.mark.fault(
    "machine",
    "the workflow database loses the record that a batch was delivered, asked for or concluded, which is done",
    "the workflow runs again: nothing is sent or asked, and the batch stays done",
)
@pytest.mark.parametrize("name", ["delivery", "confirmation", "report"])
def test_a_batch_that_is_done_stays_done(
    series_workflow: SeriesWorkflow, spool: Spool, contacts: list[object], done: Batch, name: str
) -> None:
    of_batch = done.series_instance_uid, done.key, PACS.name, 0, "0"
    if name == "delivery":
        series_workflow.enqueue_delivery(done, PACS.name, 0, "0")
    elif name == "confirmation":
        enqueue(CONFIRMATIONS, "ask", series_workflow.confirm, *of_batch, 1, 0, time.time(), partition=PACS.name)
    else:
        enqueue(REPORTS, "report/2.25.7", series_workflow.report, *of_batch, 1, 0, time.time())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while DBOS.list_workflows(status=["PENDING", "ENQUEUED", "DELAYED"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {each.status for each in DBOS.list_workflows()} == {"SUCCESS"}
    assert {state: count for state, count in spool.counts().items() if count} == {SeriesState.DONE: 1}
    assert len(spool.instances(done)) == 1
    assert contacts == []
