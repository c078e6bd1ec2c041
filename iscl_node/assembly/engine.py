"""The workflow engine of the node: started, stopped, and whether the process must begin anew."""

from collections.abc import Callable
from typing import Final

from iscl_node.assembly.shared import Shared
from iscl_node.errors import StartAgainError
from iscl_node.pipeline.engine.database_faults import DatabaseFaults
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.workflows.batch import QUEUES, SHARED_QUEUES, STEP_ORDER_VERSION

LAST_STEP_SECONDS: Final = 75
"""How long a stopping node waits for the running steps: less than the 90 s after which systemd kills it."""


class Engine:
    """Runs the workflows.

    Parameters
    ----------
    shared : Shared
        With the database's URL, the lease and the shutdown.
    """

    def __init__(self, shared: Shared) -> None:
        self._lease = shared.lease
        self._settings = shared.settings
        self._faults = DatabaseFaults(shared.shutdown)

    def start(self, stop: Callable[[], object]) -> None:
        """Start it; unfinished workflows resume. ``stop`` is called when the process must begin anew.

        Raises
        ------
        ConfigurationError
            The database cannot be used.
        """
        settings = self._settings
        self._faults.listen()
        queues = SHARED_QUEUES if settings.has_postgresql else QUEUES
        identity = settings.database_url, settings.worker_name, STEP_ORDER_VERSION
        launch_engine(*identity, queues, is_working=settings.role != "receive")
        self._faults.tell_damage(stop)
        self._lease.tell_loss(stop)

    def stop(self) -> None:
        """Wait for the running steps, then give the lease back."""
        stop_engine(LAST_STEP_SECONDS)
        self._lease.stop()

    def check(self) -> None:
        """Say why it stopped, if that was not asked for.

        Raises
        ------
        StartAgainError
        """
        if self._faults.is_damaged:
            raise StartAgainError("the workflow database is damaged; the next start sets it aside and makes a new one")
        if self._lease.is_lost:
            raise StartAgainError(f"another process has the worker_name {self._settings.worker_name!r}")
