"""What was decided once for a batch: ``<key>.plan.json`` in the batch's own folder.

It is there before the first derived instance is made, so half a series never gets another description, strength or
encoding, also when the workflow database is lost or the settings change. The key in the name distinguishes attempts: a
batch that is requeued gets another one, and is decided anew.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from iscl_node.domain import Batch, SeriesState
from iscl_node.store.durable import replace_synced
from iscl_node.store.layout import Layout
from iscl_node.store.tree import read_bytes

_UNDER_WAY = (SeriesState.CLOSED, SeriesState.SENT)
"""Where a batch is while it is worked on, in the order of its way."""


def keep_plan(root: Path, batch: Batch, plan: dict[str, Any]) -> None:
    """Write down what was decided for a batch, durably, in place of what was before.

    Raises
    ------
    OSError
        The disk refuses it, or the batch is neither closed nor sent.
    """
    for folder in _folders(root, batch):
        with suppress(FileNotFoundError):  # it has moved on
            replace_synced(folder / _file_name(batch), json.dumps(plan).encode() + b"\n")
            return
    raise FileNotFoundError("the batch is neither closed nor sent")


def kept_plan(root: Path, batch: Batch) -> dict[str, Any] | None:
    """What was decided for a batch; None if nothing was, or it cannot be read any more."""
    return next(filter(None, map(plan_in, _folders(root, batch))), None)


def plan_in(folder: Path) -> dict[str, Any] | None:
    """The plan in the folder of a batch, in any state; None if there is none, or it cannot be read any more."""
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):
        plan = json.loads(read_bytes(folder / f"{folder.name}.plan.json"))
        return plan if isinstance(plan, dict) else None
    return None


def _folders(root: Path, batch: Batch) -> list[Path]:
    return [Layout(root).batch(state, batch) for state in _UNDER_WAY]


def _file_name(batch: Batch) -> str:
    return f"{batch.key}.plan.json"
