"""Workflows that this worker claimed and does not run.

The engine does not go on with a workflow before the next start, when the answer to its claim was lost with the
connection to the database. That may not cost a restart.
"""

import structlog
from dbos import DBOS
from dbos._dbos import _get_dbos_instance

from iscl_node.pipeline.engine.words import version

_log = structlog.get_logger(__name__)


class IdleWorkflows:
    """Puts them back into their queues.

    Parameters
    ----------
    worker_name : str, optional
        Whose workflows these are; without it everybody's, as on a spool that one node alone works on: what another name
        claimed, runs nowhere else.
    """

    def __init__(self, worker_name: str | None) -> None:
        self._worker_name = worker_name
        self._idle: set[str] = set()

    def resume(self) -> int:
        """Resume those that are idle now and were the last time, and say how many; see `database_faults.not_waiting`.

        One that was claimed a moment ago may be about to run.
        """
        claimed = DBOS.list_workflows(
            status="PENDING",
            executor_id=self._worker_name,
            app_version=version(),
            load_input=False,
            load_output=False,
        )
        running = set(_get_dbos_instance()._active_workflows_set.activeList())  # the engine says it nowhere else
        idle = {each.workflow_id: each for each in claimed if each.workflow_id not in running}
        known, self._idle = self._idle, set(idle)
        resumed = [idle[identity] for identity in sorted(known & idle.keys())]
        for each in resumed:
            DBOS.resume_workflow(each.workflow_id, queue_name=each.queue_name)
            _log.warning("workflow.resumed", workflow=each.name)
        return len(resumed)
