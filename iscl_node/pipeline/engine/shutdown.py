"""Stopping between two steps."""

import threading


class NodeStopping(BaseException):
    """Leaves a workflow where it is.

    Not an ``Exception``: the workflow engine records exceptions as the workflow's end, and this
    workflow goes on when the node starts again.
    """


class Shutdown:
    """Lets the running step finish and starts no further one."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def request(self) -> None:
        """Stop before the next step."""
        self._stopping.set()

    @property
    def requested(self) -> bool:
        """Whether the node is stopping."""
        return self._stopping.is_set()

    def check(self) -> None:
        """Leave the workflow if the node is stopping.

        Raises
        ------
        NodeStopping
        """
        if self.requested:
            raise NodeStopping

    def wait(self, seconds: float) -> None:
        """Wait, or leave at once when the node is stopping.

        Raises
        ------
        NodeStopping
        """
        self._stopping.wait(seconds)
        self.check()
