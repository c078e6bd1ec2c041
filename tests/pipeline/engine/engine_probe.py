"""Workflows that only note that they ran; as a program: one that is killed in the middle of something."""

import sys
import time
from pathlib import Path
from threading import Event

from iscl_node.pipeline.engine.launch import launch_engine
from iscl_node.pipeline.engine.queues import Queue
from iscl_node.pipeline.engine.words import Durable, enqueue, message, send_message, step, workflow

FEW = Queue("few", worker_concurrency=4)
ONE_EACH = Queue("one each", partition_concurrency=1)
URGENT = Queue("urgent first", worker_concurrency=1)


class Probe(Durable):
    """Notes what its workflows do."""

    def __init__(self) -> None:
        super().__init__("probe")
        self.calls: list[str] = []
        self.go_on = Event()
        self.notes: Path | None = None

    @staticmethod
    def fresh() -> "Probe":
        """The one of this process, with nothing noted."""
        PROBE.calls.clear()
        PROBE.go_on.clear()
        return PROBE

    def call(self, name: str) -> None:
        self.calls.append(name)
        if self.notes:
            with self.notes.open("a") as file:
                file.write(f"{name}\n")

    @workflow("note")
    def note(self, name: str) -> None:
        step("note", self.call, name)

    @workflow("wait")
    def wait(self, name: str) -> None:
        self.call(name)
        self.go_on.wait(60)

    @workflow("read twice")
    def read_twice(self) -> None:
        for _ in range(2):
            self.call(str(message("news")))

    @workflow("read")
    def read(self) -> None:
        self.call(str(message("news")))

    @workflow("two steps")
    def two_steps(self) -> None:
        step("first", self.call, "first")
        step("second", self.second)

    def second(self) -> None:
        self.call("second")
        self.go_on.wait(60)


PROBE = Probe()

if __name__ == "__main__":
    url, notes, act = sys.argv[1:4]
    PROBE.notes = Path(notes)
    launch_engine(url, "node-1", "1", [FEW, ONE_EACH, URGENT])
    if act in ("two steps", "only one"):
        enqueue(FEW if act == "two steps" else URGENT, "two", PROBE.two_steps)
        while not (PROBE.notes.exists() and "second" in PROBE.notes.read_text()):
            time.sleep(0.02)
    elif act == "delayed":
        enqueue(FEW, "late", PROBE.note, "late", delay_seconds=6)
    elif act == "message":
        enqueue(FEW, "a", PROBE.read, delay_seconds=86_400)
        send_message("a", "news", {"some": "news"})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(60)
