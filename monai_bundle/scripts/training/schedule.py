"""The learning rate: linear per iteration, for all optimizers alike."""

from collections.abc import Sequence

from ignite.engine import Engine, Events
from torch.optim import Optimizer


class LinearSchedule:
    """From the optimizers' learning rates to ``final_ratio`` of them over ``iterations``, a step per iteration.

    The rate is a function of the iteration alone (``torch``'s ``LinearLR`` multiplies the last rate instead
    and restores its own length), so a resumed run may be longer or shorter than the one it goes on with.

    Parameters
    ----------
    optimizers : sequence of Optimizer
        All of their groups follow the same line, each from its own learning rate.
    final_ratio : float
        Last learning rate over the first; the paper's is 1e-6 / 1e-4.
    iterations : int
        Length of the line; behind its end the rate stays.
    """

    def __init__(self, optimizers: Sequence[Optimizer], final_ratio: float, iterations: int) -> None:
        self.optimizers = optimizers
        self.first_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self.final_ratio = final_ratio
        self.iterations = iterations
        self.iteration = 0

    def attach(self, engine: Engine) -> None:
        """Step after every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)

    def step(self) -> None:
        """Move on by one iteration."""
        self._go_to(self.iteration + 1)

    def _go_to(self, iteration: int) -> None:
        self.iteration = iteration
        factor = 1 - (1 - self.final_ratio) * min(iteration / self.iterations, 1.0)
        for optimizer, first_rates in zip(self.optimizers, self.first_rates, strict=True):
            # loading a state replaces the groups: look them up each time
            for group, first_rate in zip(optimizer.param_groups, first_rates, strict=True):
                group["lr"] = first_rate * factor

    def state_dict(self) -> dict[str, int]:
        """Where the line is, for a checkpoint."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a checkpoint; to be called after the optimizers have been restored, as it sets their rate."""
        self._go_to(state["iteration"])
