"""The words in which the other modules speak to the workflow engine; nothing else of it is visible outside this room.

========================  ==============================================================================
`workflow`                a method of a `Durable` that goes on where it was after a kill
`step`                    what a workflow does once: its result is recorded
`enqueue`                 begin a workflow under an identity; one that exists already stays as it is
`message`                 within a workflow: what was sent to it
`send_message`            send to a workflow, which need not run yet
`wake`                    end the delay of a workflow, now or in a while
`under_way`               all that wait, are delayed or run
`launch_engine`           and `stop_engine`, in `iscl_node.pipeline.engine.launch`
========================  ==============================================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from dbos import DBOS, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from dbos._error import DBOSNonExistentWorkflowError
from dbos._utils import GlobalParams
from sqlalchemy.exc import SQLAlchemyError

from iscl_node.errors import IsclNodeError
from iscl_node.pipeline.engine.queues import Queue

DatabaseError: Final = SQLAlchemyError
"""What the engine raises when its database does not do what it should."""

UNENDED: Final = ["PENDING", "ENQUEUED", "DELAYED"]
_MESSAGE_SECONDS = 0.05
"""A message is there before its workflow is woken."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class UnknownWorkflowError(IsclNodeError):
    """There is no workflow of that identity."""


class Durable(DBOSConfiguredInstance):
    """Base of an object whose methods are workflows. The engine knows it by its class and name, so one in a process.

    Parameters
    ----------
    name : str
        Stays the same over restarts and upgrades.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        DBOS.dbos_class()(cls)


@dataclass(frozen=True)
class Work:
    """A workflow that waits, is delayed or runs.

    ``due`` is the end of its delay, in seconds since the epoch; None if it is not delayed.
    """

    identity: str
    name: str
    arguments: tuple[Any, ...]
    due: float | None


def workflow(name: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Make a method of a `Durable` a workflow; ``name`` stays the same over upgrades."""
    return DBOS.workflow(name=name, max_recovery_attempts=None)  # a long outage may see many restarts


def step(name: str, work: Callable[..., Result], *arguments: Any) -> Result:
    """Do the work, and record its result; if that is recorded already, only return it.

    A kill between the two has it done again, so ``work`` must do the same again when it is done twice.
    """
    return DBOS.run_step({"name": name}, work, *arguments)


def enqueue(
    queue: Queue,
    identity: str,
    work: Callable[..., Any],
    *arguments: Any,
    partition: str | None = None,
    priority: int | None = None,
    delay_seconds: float | None = None,
) -> None:
    """Begin a workflow when its turn comes; if there is one of this identity, in any state, nothing happens."""
    options = SetEnqueueOptions(queue_partition_key=partition, priority=priority, delay_seconds=delay_seconds)
    with SetWorkflowID(identity), options:
        DBOS.enqueue_workflow(queue.name, work, *arguments)


def message(topic: str) -> Any:
    """Within a workflow: the oldest message that was sent to it; None if there is none."""
    return DBOS.recv(topic, timeout_seconds=_MESSAGE_SECONDS)


def send_message(identity: str, topic: str, value: Any, key: str | None = None) -> None:
    """Send to a workflow, durably. Of several with one ``key`` the first counts.

    Raises
    ------
    UnknownWorkflowError
        There is no such workflow.
    """
    try:
        DBOS.send(identity, value, topic, idempotency_key=key)
    except DBOSNonExistentWorkflowError as error:
        raise UnknownWorkflowError(f"no workflow {identity}") from error


def wake(identity: str, seconds: float = 0) -> None:
    """End the delay of a workflow now or in a while; one that is not delayed, or not there, is left alone."""
    DBOS.set_workflow_delay(identity, delay_seconds=seconds)


def under_way(names: Sequence[str] | None = None, identity: str | None = None) -> list[Work]:
    """All workflows of this version that have not ended, or those of some names, or of an identity."""
    found = DBOS.list_workflows(
        status=UNENDED,
        name=list(names) if names else None,
        workflow_ids=[identity] if identity else None,
        app_version=version(),
        load_output=False,
    )
    return [_work(each) for each in found]


def find(identity: str) -> Work | None:
    """A workflow, ended or not; None if there is none."""
    found = DBOS.list_workflows(workflow_ids=[identity], load_output=False)
    return _work(found[0]) if found else None


def version() -> str:
    """The version with which the engine was launched; workflows of another one never run."""
    return GlobalParams.app_version


def _work(status: WorkflowStatus) -> Work:
    arguments = tuple(status.input["args"]) if status.input else ()
    due = status.delay_until_epoch_ms
    is_delayed = status.status == "DELAYED" and due is not None
    return Work(status.workflow_id, status.name, arguments, due / 1000 if is_delayed and due is not None else None)
