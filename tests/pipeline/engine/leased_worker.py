"""One of several workers with a lease: sends twenty things, one after the other, and notes each in a shared file."""

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.engine.database_faults import DatabaseFaults
from iscl_node.pipeline.engine.fence import Fence
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.leases import Lease, taken_lease
from iscl_node.pipeline.engine.queues import Queue
from iscl_node.pipeline.engine.takeover import Takeover
from iscl_node.pipeline.engine.words import Durable, enqueue, step, workflow
from iscl_node.pipeline.engine.workers import Worker

MANY = 20
HALF = 5
"""So far one comes before there is another worker."""
QUEUE = Queue("sending", worker_concurrency=1)


class Sending(Durable):
    """Sends what the notes do not have, as long as this worker may."""

    def __init__(self, name: str, notes: Path, fence: Fence) -> None:
        super().__init__("sending")
        self._name, self._notes, self._fence = name, notes, fence

    @workflow("send")
    def run(self) -> None:
        self._fence.check()
        step("send", self._send)
        self._fence.check()
        step("end", self.note, "end")

    def _send(self) -> None:
        sent = {line.split()[1] for line in self._notes.read_text().splitlines() if line.startswith("sent")}
        for number in range(MANY):
            if str(number) not in sent:
                self._fence.check()
                self.note(f"sent {number}")
                time.sleep(0.2)
            while number == HALF and "ready node-2" not in self._notes.read_text():
                time.sleep(0.1)

    def note(self, what: str) -> None:
        with self._notes.open("a") as notes:
            notes.write(f"{what} {self._name}\n")


def look(takeover: Takeover) -> None:
    while True:
        with suppress(RetryLaterError):
            takeover.look()
        time.sleep(1)


if __name__ == "__main__":
    url, name, notes = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    lease = taken_lease(url, Worker(name, "work", "1"))
    assert isinstance(lease, Lease)
    fence = Fence(lease)
    sending = Sending(name, notes, fence)
    DatabaseFaults(fence).listen()
    launch_engine(url, name, "1", [QUEUE])
    enqueue(QUEUE, "one", sending.run)
    takeover = Takeover(lease, lambda _: None, lambda _: None)
    threading.Thread(target=look, args=(takeover,), daemon=True).start()
    sending.note("ready")
    sys.stdin.readline()
    while lease.generation < 2:  # it was woken
        time.sleep(0.1)
    time.sleep(2)  # in which ten more would be sent
    fence.request()
    stop_engine(60)
    lease.stop()
