"""The slice that the judge refused, with its result and where it changed: for the viewer, beside ``judge.png``.

``judge.json`` names the instance and the frame, and has boxes; ``judge.hu`` is the result, whole HU of 16 bits.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from iscl_node.domain import Batch, SeriesState
from iscl_node.store.durable import replace_synced
from iscl_node.store.layout import Layout
from iscl_node.store.tree import read_bytes

FACTS_FILE: Final = "judge.json"
RESULT_FILE: Final = "judge.hu"


def keep_refused(root: Path, batch: Batch, facts: Mapping[str, Any], result: bytes) -> None:
    """Put it into the folder of a closed batch; it goes to quarantine with the batch.

    Raises
    ------
    OSError
        The file system refuses it, or the batch is not closed.
    """
    folder = Layout(root).batch(SeriesState.CLOSED, batch)
    replace_synced(folder / RESULT_FILE, result)
    replace_synced(folder / FACTS_FILE, json.dumps(facts).encode() + b"\n")


def refused_in(folder: Path) -> dict[str, Any]:
    """The facts in the folder of a batch; empty if there are none that can be read."""
    with suppress(OSError, ValueError):
        facts = json.loads(read_bytes(folder / FACTS_FILE))
        return facts if isinstance(facts, dict) else {}
    return {}


def refused_result(folder: Path) -> bytes:
    """The result.

    Raises
    ------
    OSError
        It cannot be read.
    """
    return read_bytes(folder / RESULT_FILE)
