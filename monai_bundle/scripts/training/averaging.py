"""Averages of the weights: stochastic weight averaging, as in Algorithm 1, and an exponential one."""

from collections.abc import Sequence

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAveraging:
    """Average the weights of every iteration from ``start_iteration`` on; before it, follow the weights.

    The average is what is validated, saved and used to denoise; all losses use the live weights.

    Parameters
    ----------
    averaged : AveragedModel
        Holds the plain running mean.
    network : nn.Module
        The live network.
    start_iteration : int
        First iteration that is averaged.
    """

    def __init__(self, averaged: AveragedModel, network: nn.Module, start_iteration: int) -> None:
        self.averaged = averaged
        self.network = network
        self.start_iteration = start_iteration

    def attach(self, engine: Engine) -> None:
        """Update after every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self, engine: Engine) -> None:
        """Take the weights of this iteration into the mean."""
        if engine.state.iteration <= self.start_iteration:
            self.averaged.n_averaged.zero_()  # so that the next update copies
        self.averaged.update_parameters(self.network)


class Forgetting:
    """An average in which weights count less the older they are, for ``multi_avg_fn`` of ``AveragedModel``.

    Parameters
    ----------
    decay : float
        What is kept of the average in an iteration; less at the start, or the first weights would stay.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, average: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        """Take the weights into the average, the ``count``-th after the first ones."""
        decay = min(self.decay, (int(count) + 1) / (int(count) + 10))
        torch._foreach_lerp_(list(average), list(weights), 1 - decay)
