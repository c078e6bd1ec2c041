"""The warm start as a MONAI trainer: one network learns the noise that was added to clean patches."""

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from ..arguments import mistakes_in_one_line
from ..model.batch_instance_norm import clip_gates
from ..model.window import HUWindow
from .trainer import AMP_TYPES, check_acceleration
from .warm_start import NOISE_OF_A_CLEAN_IMAGE, PARTS

FINE, COARSE = 0.1, 0.05
"""Relative errors up to which the loss is square, per pixel and of means of 4 x 4 pixels."""

LEAST_LEVEL_HU = 5.0
COARSE_PIXELS = 4


class WarmStartTrainer(Trainer):
    """Teach F, G or H the noise of simulated pairs.

    The error is that of the removed noise in HU, relative to the noise of the patch: without this, patches of much
    noise rule the training. The loss is the Charbonnier loss of it, per pixel and of means of 4 x 4 pixels, where faint
    structure lives. Where the window compresses HU, errors count less. What the ellipses of twins change in the answer
    (:class:`.simulated_pairs.SimulatedPairs`) is a further error.

    Parameters
    ----------
    network : nn.Module
        What learns.
    optimizer : Optimizer
        Over its parameters.
    part : str
        'f', 'g' or 'h': what the network makes of an image. G is given a quarter of the noise and adds the rest.
    window : HUWindow
        The networks see the window as [-1, 1].
    twins : int
        How many patches at the end of a batch are twins of the first.
    coarse, invariance : float
        Weights of the loss of means, and of what ellipses change.
    largest_gradient : float
        Norm that the gradient is clipped to.
    amp : str
        As :class:`.trainer.ISCLTrainer` takes it, without 'fp16'.
    **engine : Any
        What ``monai.engines.Trainer`` takes.

    Notes
    -----
    A batch is an item of ``SimulatedPairs``. The output is a list of one mapping of scalars: ``loss``, and its terms
    ``noise`` and ``change``.
    """

    @mistakes_in_one_line
    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        part: str,
        window: HUWindow,
        twins: int = 0,
        coarse: float = 0.5,
        invariance: float = 1.0,
        largest_gradient: float = 0.5,
        amp: str = "no",
        **engine: Any,
    ) -> None:
        super().__init__(**engine)
        if part not in PARTS:
            raise ValueError(f"part is {part!r}; there are {', '.join(PARTS)}")
        if amp == "fp16":
            raise ValueError("--amp fp16 is not for the warm start; write --amp bf16 or --amp no")
        check_acceleration(self.state.device, amp, compile_networks=False)
        self.network, self.optimizer, self.part, self.window = network, optimizer, part, window
        self.twins, self.coarse, self.invariance, self.amp = twins, coarse, invariance, amp
        self.largest_gradient = largest_gradient

    def _iteration(self, engine: Engine, batchdata: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        batch = {name: each.to(self.state.device, non_blocking=self.non_blocking) for name, each in batchdata.items()}
        self.network.train()
        terms = self.step(batch[CommonKeys.IMAGE], batch[CommonKeys.LABEL], batch["target"], batch["level"])
        engine.state.output = [terms]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def step(self, noisy: Tensor, clean: Tensor, target: Tensor, level: Tensor) -> dict[str, Tensor]:
        """One iteration on noisy and clean patches and the noise to take away, (N, 1, H, W) HU; level (N,) HU."""
        if self.part == "g":
            noise = noisy - clean
            noisy, target = clean + NOISE_OF_A_CLEAN_IMAGE * noise, (NOISE_OF_A_CLEAN_IMAGE - 1) * noise
        error, weight = self.removed(noisy) - target, self.window.slope(clean).sqrt()
        noise_loss = relative_loss(error, level, weight, self.coarse)
        first, last = slice(0, self.twins), slice(len(error) - self.twins, None)
        change = noise_loss.new_zeros(())
        if self.twins:
            change = relative_loss(error[last] - error[first], level[first], weight[first], 1.0)
        loss = noise_loss + self.invariance * change
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.largest_gradient)
        self.optimizer.step()
        clip_gates(self.network)
        return {"loss": loss.detach(), "noise": noise_loss.detach(), "change": change.detach()}

    def removed(self, noisy: Tensor) -> Tensor:
        """What the network takes away, (N, 1, H, W), HU."""
        x = self.window.to_unit(noisy).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, AMP_TYPES[self.amp], enabled=self.amp != "no"):
            answer = self.network(x).to(x.dtype)
        estimate = x - answer if self.part == "h" else answer
        return noisy - self.window.to_hu(estimate.clamp(-1.02, 1.02))


def relative_loss(error: Tensor, level: Tensor, weight: Tensor, coarse: float) -> Tensor:
    """Charbonnier loss of error over noise level, both HU, and ``coarse`` times that of means of 4 x 4 pixels."""
    relative = error * weight / (level + LEAST_LEVEL_HU)[:, None, None, None]
    return charbonnier(relative, FINE) + coarse * charbonnier(functional.avg_pool2d(relative, COARSE_PIXELS), COARSE)


def charbonnier(x: Tensor, width: float) -> Tensor:
    """Mean of sqrt(x² + width²) - width: a square near 0, the absolute value far from it."""
    return ((x.square() + width**2).sqrt() - width).mean()
