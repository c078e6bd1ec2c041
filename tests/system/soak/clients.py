"""Clients that behave as a PACS does: storescu for each series, again and again until all of it was acknowledged."""

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from node import Node
from sending import storescu

from soak.ledger import Ledger
from soak.sources import Source

_AGAIN_SECONDS = (0.1, 1.0)
"""How long a client waits before it tries again; it only takes load off a node that is starting."""

_SENDS = "I: Sending file: "
_STORED = "I: Received Store Response (Success)"
_TIME_OUTS = ("--timeout", "10", "--dimse-timeout", "120")


class Clients:
    """Several clients, each with one association at a time.

    Parameters
    ----------
    node : Node
        Where they send to.
    work : iterator of Source
        Each client takes the next series from it.
    kill_at : mapping of str to str
        The SOP Instance UID at which the client is killed that sends a series, by Series Instance UID; once for each.
    ledger : Ledger
        Of what was sent and acknowledged.
    folder : Path
        For the files of the series in hand.
    may_begin : callable
        Whether a client may begin a series now.
    """

    def __init__(
        self,
        node: Node,
        work: Iterator[Source],
        kill_at: Mapping[str, str],
        ledger: Ledger,
        folder: Path,
        may_begin: Callable[[], bool],
    ) -> None:
        self._node = node
        self._work = work
        self._kill_at = dict(kill_at)
        self._ledger = ledger
        self._folder = folder
        self._may_begin = may_begin
        self._lock = threading.Lock()

    def run_one(self, dice: random.Random) -> None:
        """Be one client: send series until there are no more."""
        while (source := self._next()) is not None:
            self._ledger.wait_until(self._may_begin, "room for another series", self._ledger.progress)
            self._send(source, dice)

    def _next(self) -> Source | None:
        with self._lock:
            return next(self._work, None)

    def _send(self, source: Source, dice: random.Random) -> None:
        folder = self._folder / str(source.number)
        files = source.write(folder)
        if source.is_shuffled:
            files = dict(dice.sample(list(files.items()), len(files)))
        waiting, since = files, time.monotonic()
        while waiting:
            acknowledged, was_killed = self._attempt(source, waiting)
            if acknowledged:
                since = time.monotonic()
            # Who was killed does not know what was acknowledged, and sends the whole series again.
            waiting = files if was_killed else {path: uid for path, uid in waiting.items() if uid not in acknowledged}
            if waiting:
                self._ledger.check_patience(since, f"an acknowledgement in series {source.number}")
                time.sleep(dice.uniform(*_AGAIN_SECONDS))
        shutil.rmtree(folder)

    def _attempt(self, source: Source, files: Mapping[Path, str]) -> tuple[set[str], bool]:
        """Send over one association; return what was acknowledged, and whether the client was killed."""
        client = storescu(self._node, list(files), *_TIME_OUTS)
        try:
            acknowledged, was_killed = self._follow(client, source, files)
        finally:
            client.kill()
            client.wait()
        self._ledger.acknowledge(acknowledged)
        return acknowledged, was_killed

    def _follow(
        self, client: "subprocess.Popen[str]", source: Source, files: Mapping[Path, str]
    ) -> tuple[set[str], bool]:
        """Read the client's log as it is written, and kill the client when its time has come."""
        acknowledged: set[str] = set()
        sop_uid = ""
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith(_SENDS):
                sop_uid = files[Path(line.removeprefix(_SENDS).rstrip())]
                self._ledger.count("sent")
                if self._kill_at.get(source.series_uid) == sop_uid:
                    del self._kill_at[source.series_uid]
                    self._ledger.count("kills of clients")
                    return acknowledged, True
            elif line.startswith(_STORED):
                acknowledged.add(sop_uid)
        return acknowledged, False
