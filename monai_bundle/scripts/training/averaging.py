"""Stochastic weight averaging of the denoiser, as in Algorithm 1."""

from ignite.engine import Engine, Events
from torch import nn
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
