"""The learning rate: linear per iteration, for all optimizers alike."""

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR


class LinearSchedule:
    """From the optimizers' learning rate to ``final_ratio`` of it over ``iterations``, a step per iteration.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        All of them follow the same line.
    final_ratio : float
        Last learning rate over the first; the paper's is 1e-6 / 1e-4.
    iterations : int
        Length of the line.
    """

    def __init__(self, optimizers: Sequence[Optimizer], final_ratio: float, iterations: int) -> None:
        self.schedulers = [
            LinearLR(optimizer, start_factor=1.0, end_factor=final_ratio, total_iters=iterations)
            for optimizer in optimizers
        ]

    def attach(self, engine: Engine) -> None:
        """Step after every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)

    def step(self) -> None:
        """Move on by one iteration."""
        for scheduler in self.schedulers:
            scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Where the line is, for a checkpoint."""
        return {"schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for scheduler, scheduler_state in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(scheduler_state)
