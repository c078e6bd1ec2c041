"""The deadline of a delivery. Without ``give_up_hours`` there is none."""

from collections.abc import Callable
from dataclasses import dataclass

from iscl_node.domain import Batch
from iscl_node.store.records.deliveries import Deliveries

_HOUR = 3600


@dataclass(frozen=True)
class Deadline:
    """How long a destination may fail to take a batch, or to confirm it.

    Only the time that the node runs counts, so a clock that jumps, or a long time off, ends no delivery too early.

    Parameters
    ----------
    deliveries : Deliveries
        Knows when the delivery of a batch began.
    running_seconds : callable
        How long the node has run so far, over all its starts.
    limit_seconds : float
        0 for no limit.
    """

    deliveries: Deliveries
    running_seconds: Callable[[], float]
    limit_seconds: float

    def end(self, batch: Batch, reason: str) -> str:
        """Why to give up, after a failure for this reason; empty as long as it is to be tried again."""
        began = self.deliveries.began(batch) if self.limit_seconds else None
        if began is None or self.running_seconds() - began < self.limit_seconds:
            return ""
        return f"given up after {self.limit_seconds / _HOUR:g} hours, see [delivery] give_up_hours: {reason}"
