"""A node that can be killed at any of its points; see `killed_node`."""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from archive import RecordingArchive
from killed_node import DATABASE, PRELOADED, Jumps, Orders, run
from node import AE_TITLE, SENDER, Node
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import CTImageStorage

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.scu.association import established

_MIRROR = """[[peers]]
name = "mirror"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}
may = ["receive"]
confirm = "auto"
[[rules]]
name = "two strengths"
"""

_fork_server = multiprocessing.get_context("forkserver")
_fork_server.set_forkserver_preload(list(PRELOADED))
"""Imports everything once, before any thread is there, and forks for each start: seconds less, hundreds of times."""


@contextlib.contextmanager
def two_archives() -> Iterator[tuple[RecordingArchive, RecordingArchive]]:
    """One that commits to what it has, and one that can be asked for it."""
    archives = RecordingArchive(confirms="commitment"), RecordingArchive(confirms="query")
    for archive in archives:
        archive.start()
    yield archives
    for archive in archives:
        archive.stop()


class DisturbedNode(Node):
    """A node that sends two strengths of a series to two archives, and can be started with orders.

    Parameters
    ----------
    folder : Path
        For everything it writes.
    archives : pair of RecordingArchive
        Its destinations, which are asked for confirmation in whatever way they offer; see `two_archives`.
    bundle : Path
        The model.
    """

    def __init__(self, folder: Path, archives: tuple[RecordingArchive, RecordingArchive], bundle: Path) -> None:
        archive, mirror = archives
        super().__init__(folder, archive.port, bundle, quiet_seconds=0.3, confirm="auto")
        self.change_settings('[[rules]]\nname = "two strengths"\n', _MIRROR.format(port=mirror.port))
        self.change_settings("strength = [0.5, 1.0]\nsend_to = [", 'strength = [0.5, 1.0]\nsend_to = ["mirror", ')
        self._fork: ForkServerProcess | None = None

    def start(self, disturbance: Orders | Jumps | None = None) -> None:
        """Start the program and wait until it is ready, or dead if it was ordered to die."""
        arguments = (self._config, self._log, self.spool, disturbance)
        self._fork = _fork_server.Process(target=run, args=arguments, daemon=True)
        self._fork.start()
        is_mortal = isinstance(disturbance, Orders) and disturbance.fatal is not None
        is_ready = (lambda: not self.is_running or self._says_ready()) if is_mortal else self._is_ready
        self.wait_for(is_ready, "the node is ready")

    def set_clock(self, jumps: Jumps, seconds: float) -> None:
        """Add so much to the clock of a node that was started with these jumps."""
        assert self._fork is not None
        assert self._fork.pid is not None
        jumps.amount.write_text(str(seconds))
        os.kill(self._fork.pid, signal.SIGRTMIN)
        self.wait_for(lambda: not jumps.amount.exists(), "the clock is set")

    def is_at_rest(self) -> bool:
        """Whether no workflow goes on or waits, so that nothing more is written."""
        database = sqlite3.connect(f"file:{self.spool / DATABASE}?mode=ro", uri=True, timeout=30)
        with contextlib.closing(database):
            going_on = "SELECT 1 FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED')"
            return database.execute(going_on).fetchone() is None

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._fork is not None and self._fork.is_alive()

    @property
    def was_killed(self) -> bool:
        """Whether it ended by a kill, and not by itself."""
        return self._fork is not None and self._fork.exitcode == -signal.SIGKILL

    def kill(self) -> None:
        """End it, and what it started, in the middle of whatever it does."""
        assert self._fork is not None
        assert self._fork.pid is not None
        os.killpg(self._fork.pid, signal.SIGKILL)
        self._fork.join()

    def close(self) -> None:
        """Make sure that nothing is left running after a test."""
        if self.is_running:
            self.kill()


def send_what_is_taken(node: Node, series: Sequence[FileDataset]) -> set[str]:
    """Send one instance after the other, as far as the node lives; the UIDs of those that it answered with success."""
    peer = Peer("node", AE_TITLE, "127.0.0.1", node.port)
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    taken = set()
    with contextlib.suppress(RetryLaterError), established(peer, SENDER, [context], answer_seconds=30) as association:
        for dataset in series:
            if not association.is_established:
                break
            answer = association.send_c_store(dataset)
            if "Status" not in answer:
                break
            if answer.Status == 0x0000:
                taken.add(str(dataset.SOPInstanceUID))
    return taken
