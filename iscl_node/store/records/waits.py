"""Why a batch waits, and until when: ``<key>.wait.json``, or ``<key>.<destination>.wait.json``, in its folder.

It is for people only, and nothing follows from it: that it cannot be written is not logged.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store.durable import replace_synced
from iscl_node.store.layout import Layout, name_for
from iscl_node.store.tree import read_bytes

_UNDER_WAY = (SeriesState.CLOSED, SeriesState.SENT)


@dataclass(frozen=True)
class Wait:
    """For what reason, and until when at most, in seconds since the epoch."""

    reason: str
    until: float


class Waits:
    """Notes them.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)

    def note(self, batch: Batch, destination: str, wait: Wait) -> None:
        """A batch waits; ``destination`` is empty if it waits for none."""
        for folder in self._folders(batch):
            with suppress(OSError):
                replace_synced(folder / wait_file(batch, destination), json.dumps(asdict(wait)).encode() + b"\n")
                return

    def end(self, batch: Batch, destination: str) -> None:
        """It waits no more."""
        for folder in self._folders(batch):
            with suppress(OSError):
                (folder / wait_file(batch, destination)).unlink()

    def _folders(self, batch: Batch) -> list[Path]:
        return [self._layout.batch(state, batch) for state in _UNDER_WAY]


def wait_file(batch: Batch, destination: str) -> str:
    """The name of the file."""
    return f"{batch.key}.{name_for(destination)}.wait.json" if destination else f"{batch.key}.wait.json"


def read_wait(path: Path) -> Wait | None:
    """What a file says; None if it is gone or damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        content = json.loads(read_bytes(path))
        until = float(content["until"])
        datetime.fromtimestamp(until, UTC)  # or it is no time
        return Wait(str(content["reason"]), until)
    return None
