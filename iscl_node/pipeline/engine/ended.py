"""What the workflow database keeps of batches that have ended, and for how long.

DBOS deletes nothing by itself: each batch leaves a row for each of its workflows and their steps. The pages of deleted
rows are used again, by SQLite as by PostgreSQL, so the database stops growing, though its file does not shrink.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from dbos import DBOS

from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.words import UNENDED, version

_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
"""Every status of DBOS but those of workflows that run, wait in the queue, or are put off."""

_AT_LEAST = timedelta(hours=1)
"""So that a process that listed the closed batches before one ended does not start it again."""

_AT_A_TIME = 20
"""With a thousand steps each, a transaction of less than a second, and then others may write."""

_PAUSE_SECONDS = 0.1
"""Between two transactions, because who waits for SQLite's lock looks every tenth of a second."""

_FOR_SECONDS = 10
"""In all, enough for more than a thousand: the other tasks have their turn, and a node that stops waits no longer."""


def forget_ended(retention_seconds: float, worker_name: str | None = None) -> int:
    """Delete workflows that ended longer ago than this (an hour at least), and say how many.

    For 10 s at most, so call it again. Workflows that have not ended stay, however old they are, and with them the
    ended ones of the same batch: a batch with a running delivery would start again without them. Those of another
    version never run again, and go when they are as old; of those that share a database the ones of ``worker_name``.

    Raises
    ------
    RetryLaterError
        If the workflow database refuses it.
    """
    now = datetime.now(UTC)
    before = now - max(timedelta(seconds=retention_seconds), _AT_LEAST)
    with not_waiting("deletes nothing"):
        ended = _listed(status=_ENDED, completed_before=before.isoformat())
        # Only this version's: those of an earlier one never run again.
        going_on = _listed(status=UNENDED, app_version=version()) if ended else []
        going_on += _listed(completed_after=(now - _AT_LEAST).isoformat()) if ended else []
        kept = {batch_of(each) for each in going_on}
        left = _left_behind(before, worker_name)
        return _forgotten([*left, *(each for each in ended if batch_of(each) not in kept)])


def _forgotten(workflows: list[str]) -> int:
    """How many were deleted in the time there is, the oldest first."""
    until, forgotten = time.monotonic() + _FOR_SECONDS, 0
    while forgotten < len(workflows) and time.monotonic() < until:
        some = workflows[forgotten : forgotten + _AT_A_TIME]
        DBOS.delete_workflows(some)
        forgotten += len(some)
        time.sleep(_PAUSE_SECONDS)
    return forgotten


def _left_behind(before: datetime, worker_name: str | None) -> list[str]:
    """Those that had not ended when this version took over."""
    found = DBOS.list_workflows(
        status=UNENDED, end_time=before.isoformat(), executor_id=worker_name, load_input=False, load_output=False
    )
    return [each.workflow_id for each in found if each.app_version != version()]


def _listed(**which: Any) -> list[str]:
    return [each.workflow_id for each in DBOS.list_workflows(load_input=False, load_output=False, **which)]


def batch_of(workflow_id: str) -> str:
    """What the identities of a batch's workflows begin with: series, key and version."""
    return "/".join(workflow_id.split("/")[:3])
