"""How long the node has run, over all its starts: a clock that cannot be set, and that stops while the node is off."""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

from iscl_node.store.durable import replace_synced

RUNNING_TIME_FILE = "running_time.json"


class RunningTime:
    """Counts from what an earlier process wrote down, or from zero; a kill loses what was not written down since.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / RUNNING_TIME_FILE
        self._lock = threading.Lock()
        self._earlier = 0.0
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._earlier = float(json.loads(self._path.read_bytes())["seconds"])
        self._started = time.monotonic()

    def seconds(self) -> float:
        """The time so far."""
        return self._earlier + time.monotonic() - self._started

    def write_down(self) -> None:
        """Keep it for the next process.

        Raises
        ------
        OSError
            The disk refuses it.
        """
        with self._lock:
            replace_synced(self._path, json.dumps({"seconds": self.seconds()}).encode())
