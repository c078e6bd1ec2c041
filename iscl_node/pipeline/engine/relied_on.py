"""What the node relies on of its workflow engine, which may change with any version: so the version is pinned.

Each has a test of its name in ``tests/pipeline/engine/test_relied_on.py``; run them before the pin is moved.
"""

from typing import Final

RELIED_ON: Final = {
    "an_identity_begins_once": "a second workflow of the same identity is not started, ended or not",
    "a_recorded_step_is_not_done_again": "after a kill a workflow goes on behind its last recorded step",
    "a_delay_outlasts_a_kill": "a delayed workflow runs after its time, not before, though the process was killed",
    "a_delayed_workflow_can_be_woken": "`set_workflow_delay(identity, 0)` has it run within seconds",
    "a_delay_can_be_moved": "`set_workflow_delay(identity, seconds)` has it run after that time, and not before",
    "a_message_may_come_first": "a message to a workflow that does not run yet is there when it runs, over a kill, too",
    "a_message_with_a_key_comes_once": "of two messages with one idempotency key the first counts",
    "an_unknown_workflow_takes_no_message": "`send` raises `DBOSNonExistentWorkflowError`",
    "the_lower_priority_number_goes_first": "of those that wait in a queue",
    "a_full_partition_holds_up_no_other": "`partition_worker_concurrency` counts in each partition alone",
    "who_listens_to_no_queue_takes_no_work": "and puts it there for others",
    "another_version_does_not_run": "workflows of another `application_version` stay where they are",
    "another_worker_s_workflows_are_left_alone": "recovery at launch takes only those of the own `executor_id`",
    "another_worker_s_workflow_can_be_resumed": "`resume_workflow` puts it back into a queue, and this worker runs it",
    "the_last_to_launch_sets_a_queue_s_limits": "they lie in the database, one value for all workers",
    "a_damaged_file_is_told": "SQLite says of a file that is no database that it is none (NOTADB)",
    "a_queue_is_looked_into_by_two_methods": "`get_queue` and `dequeue_scopes` of its database, at each poll",
    "it_tells_which_workflows_run_here": "`_active_workflows_set`, not public, has the workflows of this process",
}
"""What, by the name of its test."""
