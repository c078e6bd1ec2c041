"""How long a training lasts, and its learning rate."""

import math
import time
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


class Budget:
    """How much of the training is done: of its iterations, or of its time, whose end ends it.

    Parameters
    ----------
    iterations : int
        Of the training.
    minutes : float
        Time in place of iterations; 0 counts iterations.
    clock : str
        'processor' counts the time of this process, so that a busy machine makes a run longer and not shorter; 'wall',
        for GPUs, what a clock shows.
    """

    def __init__(self, iterations: int, minutes: float = 0.0, clock: str = "processor") -> None:
        self.iterations, self.minutes = iterations, minutes
        self.now = {"processor": time.process_time, "wall": time.monotonic}[clock]
        self.done, self.spent_s, self.counted_s = 0, 0.0, self.now()

    def attach(self, engine: Engine) -> None:
        """Count during the run of ``engine``; to be attached before what looks at it."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.count)

    def start(self) -> None:
        """Leave out what came before the first iteration."""
        self.counted_s = self.now()

    def count(self, engine: Engine) -> None:
        """One more iteration."""
        now_s = self.now()
        self.done, self.spent_s, self.counted_s = self.done + 1, self.spent_s + now_s - self.counted_s, now_s
        if self.minutes and self.share >= 1:
            engine.terminate()

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(self.spent_s / (60 * self.minutes) if self.minutes else self.done / self.iterations, 1.0)

    def state_dict(self) -> dict[str, float]:
        """What is spent, for a checkpoint."""
        return {"done": self.done, "spent_s": self.spent_s}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self.done, self.spent_s = int(state["done"]), state["spent_s"]


class CosineSchedule:
    """From the optimizer's learning rate down to ``final_ratio`` of it along half a cosine, after a rise at the start.

    Parameters
    ----------
    optimizer : Optimizer
        All of its groups follow, each from its own learning rate.
    budget : Budget
        How far the training is.
    final_ratio : float
        Last learning rate over the first.
    rise : int
        Iterations over which the rate rises from 0.
    """

    def __init__(self, optimizer: Optimizer, budget: Budget, final_ratio: float, rise: int) -> None:
        self.optimizer, self.budget, self.final_ratio, self.rise = optimizer, budget, final_ratio, rise
        self.first_rates = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Set the rate before every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.step)

    def step(self) -> None:
        """The rate of the next iteration."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.budget.share))
        factor = self.final_ratio + (1 - self.final_ratio) * cosine
        factor *= min(1.0, (self.budget.done + 1) / self.rise) if self.rise else 1.0
        for group, first_rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = first_rate * factor
