"""One of several workers on one database: takes batches until it is told to stop, and notes each call in a file."""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from iscl_node.domain import Batch
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.conclude import Next
from iscl_node.pipeline.engine.database_faults import DatabaseFaults
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.workflows.batch import QUEUES, STEP_ORDER_VERSION, SeriesWorkflow
from iscl_node.pipeline.workflows.trying import Trying
from iscl_node.retry import Backoff


class NotedSteps:
    """Steps that only say in a file that several processes share who did them."""

    def __init__(self, worker: str, notes: Path) -> None:
        self._worker, self._notes = worker, notes

    def note(self, batch: Batch, call: str) -> None:
        with self._notes.open("a") as notes:
            notes.write(f"{self._worker} {batch.series_instance_uid} {call}\n")

    def making(self, _batch: Batch) -> AbstractContextManager[None]:
        return nullcontext()

    def check(self, batch: Batch) -> tuple[str, list[str], list[str]]:
        self.note(batch, "check")
        return "all", ["2.25.1"], ["1.dcm"]

    def planned(self, _batch: Batch) -> tuple[str, list[str], list[str]]:
        return "all", ["2.25.1"], ["1.dcm"]

    def when(self, *_: object) -> tuple[int, float]:
        return 2, 0.0

    def judge(self, batch: Batch, *_: object) -> list[tuple[str, int]]:
        self.note(batch, "judge")
        return []

    def destinations(self, *_: object) -> tuple[str, ...]:
        return ("pacs", "vault")

    report_seconds = 3600.0

    def after_sending(self, *_: object) -> str:
        return "ask"

    def ask(self, batch: Batch, peer: str, *_: object) -> dict[str, str]:
        self.note(batch, f"ask {peer}")
        return {"way": "none"}

    def conclude(self, batch: Batch, peer: str, *_: object) -> Next:
        self.note(batch, f"conclude {peer}")
        return Next("end")

    def settle(self, batch: Batch) -> None:
        """Nothing: this is noted nowhere."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda batch, *arguments: self.note(batch, " ".join([name, *map(str, arguments)]))


if __name__ == "__main__":
    database_url, worker, notes, batches = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    shutdown = Shutdown()
    steps = NotedSteps(worker, notes)
    metrics = Metrics(CollectorRegistry())
    parts: Any = [steps] * 4
    workflow = SeriesWorkflow(*parts, Trying(shutdown, metrics, Backoff(0.1, 0.1)), metrics)
    DatabaseFaults(shutdown).listen()
    launch_engine(database_url, worker, STEP_ORDER_VERSION, QUEUES)
    sys.stdin.readline()  # until all have been launched
    for number in range(batches):
        workflow.enqueue(Batch(f"1.2.{number}", "20260301T120000.000000Z"))
    sys.stdin.readline()
    shutdown.request()
    stop_engine(60)
    os._exit(0)
