"""Workflows that nobody goes on with, though their batch has not come to its end.

The engine ends a workflow in which it fails itself, as with a damaged database. And one that it claimed does not go
on before the next start, when the answer to the claim was lost with the connection. Neither may cost a restart.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

import structlog
from dbos import DBOS, WorkflowStatus
from dbos._dbos import _get_dbos_instance

from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.ended import batch_of, forget_ended
from iscl_node.pipeline.engine.words import version

_log = structlog.get_logger(__name__)


class StrandedWorkflows:
    """Has the engine go on with them, under their identity, from the first step that is not recorded as done.

    Parameters
    ----------
    unended_batches : callable
        What the identities of workflows of batches that have not come to their end begin with.
    worker_name : str
        Whose workflows these are.
    """

    def __init__(self, unended_batches: Callable[[], Iterable[str]], worker_name: str) -> None:
        self._unended_batches = unended_batches
        self._worker_name = worker_name
        self._idle: set[str] = set()

    def resume(self) -> int:
        """Go on with those that failed, and with those that were idle the last time already; say how many these are.

        Raises
        ------
        RetryLaterError
            If the workflow database refuses it.
        """
        with not_waiting("resumes nothing"):
            failed = self._unended(_listed(status="ERROR"))
            for each in failed:
                _rewind(each)
            idle = self._known_as_idle()
            for each in idle:
                DBOS.resume_workflow(each.workflow_id, queue_name=each.queue_name)
        for each in [*failed, *idle]:
            _log.warning("workflow.resumed", workflow=each.name, batch=each.workflow_id.split("/")[1])
        return len(failed) + len(idle)

    def _unended(self, workflows: Sequence[WorkflowStatus]) -> list[WorkflowStatus]:
        """Those of batches that have not come to their end."""
        batches = self._unended_batches() if workflows else ()
        unended = {f"{batch}/{version()}" for batch in batches}
        return [each for each in workflows if batch_of(each.workflow_id) in unended]

    def _known_as_idle(self) -> list[WorkflowStatus]:
        """Those that nobody has in hand, though this worker claimed them, now and the last time.

        One that was claimed a moment ago may not be in hand yet.
        """
        claimed = _listed(status="PENDING", executor_id=self._worker_name)
        in_hand = set(_get_dbos_instance()._active_workflows_set.activeList())  # the engine tells it nowhere else
        idle = [each for each in claimed if each.workflow_id not in in_hand]
        known, self._idle = self._idle, {each.workflow_id for each in idle}
        return [each for each in idle if each.workflow_id in known]


def tend_workflows(stranded: StrandedWorkflows, retention_seconds: float) -> int:
    """Go on with what is stranded, then forget what ended long ago; the other way round, something might be both.

    Raises
    ------
    RetryLaterError
        If the workflow database refuses it.
    """
    stranded.resume()
    return forget_ended(retention_seconds)


def _listed(**which: Any) -> list[WorkflowStatus]:
    return DBOS.list_workflows(load_input=False, load_output=False, app_version=version(), **which)


def _rewind(workflow: WorkflowStatus) -> None:
    """Have it done again from its last step, if that failed, or behind it."""
    steps = DBOS.list_workflow_steps(workflow.workflow_id)
    start = 1
    if steps:
        last = max(steps, key=itemgetter("function_id"))
        start = last["function_id"] + (last["error"] is None)
    DBOS.rewind_workflow(
        workflow.workflow_id,
        start_step=start,
        queue_name=workflow.queue_name,
        queue_partition_key=workflow.queue_partition_key,
    )
