"""The node leaves a process that listens to the errors of its database; a test must end that."""

from sqlalchemy import Engine, event

from iscl_node.pipeline.engine.database_faults import DatabaseFaults


def stop_listening(faults: DatabaseFaults) -> None:
    """Leave errors to the engine again."""
    event.remove(Engine, "handle_error", faults._answer)
