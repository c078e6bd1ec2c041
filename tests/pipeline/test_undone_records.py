"""Workflows that run again though their batch has ended, as after a power cut or with a restored database."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dbos import DBOS
from factories import ct_dataset, part10
from test_workflow import PATIENCE_SECONDS, the_workflow

from iscl_node.dicom.header import read_header
from iscl_node.domain import Batch, Peer, SeriesState, Site, StoreAnswer
from iscl_node.pipeline import workflow
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.stranded_workflows import StrandedWorkflows
from iscl_node.pipeline.engine.words import enqueue
from iscl_node.pipeline.steps import SeriesSteps
from iscl_node.pipeline.workflow import DELIVERIES, QUEUES, STEP_ORDER_VERSION, SeriesWorkflow
from iscl_node.settings import QualitySettings
from iscl_node.store.spool import Spool

PACS = Peer("pacs", "PACS", "127.0.0.1", 104)


@pytest.fixture
def sent() -> list[Path]:
    return []


@pytest.fixture
def series_workflow(
    spool: Spool, sent: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SeriesWorkflow]:
    def send(_peer: Peer, files: Sequence[Path], _answered: Callable[[StoreAnswer], object]) -> None:
        sent.extend(files)

    monkeypatch.setattr(the_workflow(), "_shutdown", Shutdown())
    steps = SeriesSteps(spool, [], {PACS.name: PACS}, {}, send, QualitySettings().limits(), "0", Site())
    monkeypatch.setattr(the_workflow(), "_steps", steps)
    launch_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", "node-1", STEP_ORDER_VERSION, QUEUES)
    yield the_workflow()
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
    "the workflow database forgets that a batch was delivered, or sent again, that is done",
    "the workflow runs again: nothing is sent, and the batch stays done",
)
@pytest.mark.parametrize(("name", "last"), [("delivery", "end"), ("resending", "resending")])
def test_a_batch_that_is_done_stays_done(
    series_workflow: SeriesWorkflow, spool: Spool, sent: list[Path], done: Batch, name: str, last: str
) -> None:
    if name == "resending":
        series_workflow.enqueue_resending(done, PACS.name, 1)
    else:
        identity = workflow._identity(done, "to", PACS.name)
        arguments = done.series_instance_uid, done.key, PACS.name, [PACS.name], [("2.25.1", 1)]
        enqueue(DELIVERIES, identity, series_workflow.deliver, *arguments, partition=PACS.name)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not DBOS.list_workflows(name=last, status=["SUCCESS", "ERROR"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert StrandedWorkflows(spool.batches_under_way, "node-1").resume() == 0
    assert {state: count for state, count in spool.counts().items() if count} == {SeriesState.DONE: 1}
    assert len(spool.instances(done)) == 1
    assert sent == []
