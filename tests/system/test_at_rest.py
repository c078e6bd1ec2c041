"""What a node costs that has nothing to do: threads and processor time, with much that waits, is kept, or has been.

It prints its figures; `make test-long` shows them with ``-s``.
"""

import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from factories import CT_IMAGE, ROOT, ct_dataset, part10
from node import Node, free_port
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from iscl_node.domain import Batch, InstanceReference, SeriesState, StoreAnswer
from iscl_node.store.layout import Layout
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

pytestmark = [pytest.mark.peers, pytest.mark.long]

MEASURED_SECONDS = 60
"""What is done every minute is in it once."""
STARTED_SECONDS = 20
SETTLED_SECONDS = 900
MOST_THREADS = 60
"""A node at rest has about 30, however much waits."""

WAITING, DELIVERED, ENDED = 1_000, 10_000, 100_000
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def key(number: int) -> str:
    return f"{NOON + timedelta(seconds=number):%Y%m%dT%H%M%S.%fZ}"


def fill_with_waiting(root: Path, count: int) -> None:
    """Batches that the archive stored, and has not confirmed."""
    spool, deliveries = Spool.open(root, 0), Deliveries(root)
    source, derived = part10(ct_dataset()), part10(ct_dataset(SeriesInstanceUID="2.25.1", SOPInstanceUID="2.25.2"))
    for number in range(count):
        batch = Batch(f"{ROOT}.9.{number}", key(number))
        folder = Layout(root).batch(SeriesState.CLOSED, batch)
        folder.mkdir(parents=True)
        (folder / f"{ROOT}.8.{number}.dcm").write_bytes(source)
        spool.write_derived(batch, "2.25.1", "2.25.2", derived)
        deliveries.begin(batch, ["archive"], 0.0, [("2.25.1", 1)])
        deliveries.note_answers(batch, "archive", [StoreAnswer(InstanceReference(CT_IMAGE, "2.25.2"), 0, True)])
        spool.mark_sent(batch)


def fill_with_delivered(root: Path, count: int) -> None:
    """Batches that have ended a moment ago."""
    Spool.open(root, 0)
    one = root.parent / "one.dcm"
    one.write_bytes(part10(ct_dataset()))
    for number in range(count):
        folder = Layout(root).batch(SeriesState.DONE, Batch(f"{ROOT}.7.{number}", key(number)))
        folder.mkdir(parents=True)
        os.link(one, folder / f"{ROOT}.6.{number}.dcm")


def fill_with_history(database: Path, count: int) -> None:
    """Copies of a workflow that ended half an hour ago."""
    with closing(sqlite3.connect(database)) as opened, opened:
        rows = opened.execute("SELECT * FROM workflow_status WHERE status = 'SUCCESS' LIMIT 1")
        names = [each[0] for each in rows.description]
        row = dict(zip(names, rows.fetchone(), strict=True))
        ended = int((time.time() - 1800) * 1000)
        row |= {name: ended for name in ("created_at", "updated_at", "completed_at") if name in row}
        statement = f"INSERT INTO workflow_status ({','.join(names)}) VALUES ({','.join('?' * len(names))})"
        copies = ({**row, "workflow_uuid": f"1.2.{number}/{key(number)}/13/series/0"} for number in range(count))
        opened.executemany(statement, ([copy[name] for name in names] for copy in copies))


@pytest.fixture
def silent_archive() -> Iterator[int]:
    """Takes every request for storage commitment, ends the association, and never reports; its port."""

    def take(event: evt.Event) -> tuple[int, None]:
        threading.Timer(0.2, event.assoc.abort).start()
        return 0x0000, None

    entity, port = AE("ARCHIVE"), free_port()
    entity.maximum_associations = 100
    entity.add_supported_context(StorageCommitmentPushModel)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, take)])
    assert server is not None
    yield port
    server.shutdown()


@pytest.fixture
def node(tmp_path: Path, bundle: Path, silent_archive: int) -> Iterator[Node]:
    node = Node(tmp_path / "node", silent_archive, bundle, confirm="commitment")
    yield node
    node.close()


def seconds_used(process: int) -> float:
    """Processor time (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads_of(process: int) -> int:
    (count,) = re.findall(r"^Threads:\s+(\d+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return int(count)


def at_rest(node: Node, what: str, tell: Callable[[str], None]) -> int:
    """Measure, some time after the start; the number of threads."""
    time.sleep(STARTED_SECONDS)
    process = node.process_id
    before, started = seconds_used(process), time.monotonic()
    time.sleep(MEASURED_SECONDS)
    share = (seconds_used(process) - before) / (time.monotonic() - started)
    threads = threads_of(process)
    tell(f"at rest with {what}: {threads} threads, {100 * share:.1f} % of a core\n")
    return threads


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return show


def test_batches_that_wait_for_an_archive_cost_no_thread(node: Node, tell: Callable[[str], None]) -> None:
    node.start()
    empty = at_rest(node, "nothing", tell)
    node.kill()
    fill_with_waiting(node.spool, WAITING)
    node.start()
    node.wait_for(lambda: node.workflows() == node.workflows("report") == WAITING, "all were asked", SETTLED_SECONDS)
    threads = at_rest(node, f"{WAITING} batches that wait for a report", tell)
    assert threads <= max(empty + 15, MOST_THREADS)
    assert node.status()["batches"]["sent"] == WAITING


def test_what_is_kept_costs_little(node: Node, tell: Callable[[str], None]) -> None:
    fill_with_waiting(node.spool, 1)
    fill_with_delivered(node.spool, DELIVERED)
    node.start()
    node.wait_for(lambda: node.workflows("report"), "a workflow that ended")
    at_rest(node, f"{DELIVERED} delivered batches", tell)
    node.kill()
    fill_with_history(node.spool / "workflows.sqlite", ENDED)
    node.start()
    threads = at_rest(node, f"{DELIVERED} delivered batches and {ENDED} rows of ended workflows", tell)
    assert threads <= MOST_THREADS
    assert node.status()["batches"]["done"] == DELIVERED
