"""A training whose numbers have left the real ones stops at once, before anything is saved."""

import sys
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import Tensor
from torch.nn.utils import get_total_norm

from ..arguments import on_command_line
from .checkpoints import CHECKPOINT
from .trainer import NETWORK_NAMES

SUMS = ("generator", "discriminator", "extractor", CommonKeys.LOSS)
"""Terms of the output that are made of others: they tell less."""


class NonFiniteStop:
    """End the run at the first iteration with NaN or infinity in a loss term or a weight.

    To be the first handler of the trainer: what comes after it (averaging, logs, checkpoints) never sees such
    an iteration, so the last checkpoint is a good one. ``ignite``'s ``TerminateOnNan`` would end the run as if
    it were complete, after the remaining handlers of the iteration.

    Parameters
    ----------
    folder : str
        Where the checkpoints are; only named in the message.
    """

    def __init__(self, folder: str) -> None:
        self.checkpoint = Path(folder) / CHECKPOINT

    def attach(self, engine: Engine) -> None:
        """Look at every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.check)

    def check(self, engine: Engine) -> None:
        """Stop if a number of this iteration is not finite.

        Raises
        ------
        FloatingPointError
            With the first such number in the order of computation; on the command line of
            ``python -m monai.bundle`` the program ends with one line and status 1 instead.
        """
        values = numbers_of(engine)
        finite = torch.stack([value.detach().float() for value in values.values()]).isfinite()
        if finite.all():  # the only time the CPU waits for the device
            return
        name = next(name for name, good in zip(values, finite, strict=True) if not good)
        message = f"iteration {engine.state.iteration}: {self.cause(engine, name, values[name])}; {self.advice()}"
        if on_command_line():
            sys.exit(f"error: {message}")
        raise FloatingPointError(message)

    @staticmethod
    def cause(engine: Engine, name: str, value: Tensor) -> str:
        """What is not finite: an image of the batch, or what was computed first."""
        for domain, images in engine.state.batch.items():
            if images.isnan().any():  # an infinite HU is clipped to the window
                return f"the {domain} images of this batch hold NaN"
        return f"{name} is {float(value)}"

    def advice(self) -> str:
        """What the user has and can do."""
        if not self.checkpoint.exists():
            return "nothing was saved yet; check the images, or try a lower --learning_rate"
        return f"the last good checkpoint is kept in {self.checkpoint}; go on from it with a lower --learning_rate"


def numbers_of(engine: Engine) -> dict[str, Tensor]:
    """Loss terms and the norms of the weights, scalars, in the order in which the first bad one tells most."""
    terms = engine.state.output[0]
    weights = {
        f"a weight of {name}": get_total_norm(list(network.parameters()))
        for name, network in zip(NETWORK_NAMES, engine.networks, strict=True)
    }
    single = {f"loss term {name}": term for name, term in terms.items() if name not in SUMS}
    return single | weights | {f"loss {name}": terms[name] for name in SUMS if name in terms}
