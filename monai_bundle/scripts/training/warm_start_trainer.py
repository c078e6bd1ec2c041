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

FINE, COARSE = 0.1, 0.2
"""Relative errors up to which the loss is square: per pixel, and of means of k x k pixels, there divided by k."""

LEAST_LEVEL_HU = 5.0
MEANS = {4: 0.5}


class WarmStartTrainer(Trainer):
    """Teach F, G or H the noise of simulated pairs.

    The error is that of the removed noise in HU, relative to the noise of the patch: without this, patches of much
    noise rule the training. The loss is the Charbonnier loss of it, per pixel and of means of squares, where faint
    structure and coarse noise live. Where the window compresses HU, errors count less. What the ellipses of twins
    change in the answer (:class:`.simulated_pairs.SimulatedPairs`) is a further error, and so is what the answers to
    two draws of the noise have wrong in common: the mean product of both errors is the square of the bias, and holds
    nothing of the noise that is left.

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
    twins, draws : int
        A batch ends with so many twins of its first patches, then with so many patches in a draw of the noise, and the
        same patches in another one.
    means : mapping of int (or its digits) to float
        Side of the squares whose means are compared, in pixels, and the weight of that loss.
    invariance, unbiased : float
        Weights of what ellipses change, and of the bias.
    largest_gradient : float
        Norm that the gradient is clipped to.
    amp : str
        As :class:`.trainer.ISCLTrainer` takes it, without 'fp16'.
    **engine : Any
        What ``monai.engines.Trainer`` takes.

    Notes
    -----
    A batch is an item of ``SimulatedPairs``. The output is a list of one mapping of scalars: ``loss``, and its terms
    ``noise``, ``change`` and ``bias``.
    """

    @mistakes_in_one_line
    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        part: str,
        window: HUWindow,
        twins: int = 0,
        draws: int = 0,
        means: Mapping[int | str, float] = MEANS,
        invariance: float = 1.0,
        unbiased: float = 0.0,
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
        self.twins, self.draws, self.amp = twins, draws, amp
        self.means = {int(side): float(part) for side, part in means.items()}
        self.invariance, self.unbiased = invariance, unbiased
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
        noise_loss = relative_loss(error, level, weight, self.means)
        change = self._change(error, level, weight)
        bias = self._squared_bias(relative(error, level, weight))
        loss = noise_loss + self.invariance * change + self.unbiased * bias
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.largest_gradient)
        self.optimizer.step()
        clip_gates(self.network)
        found = {"loss": loss, "noise": noise_loss, "change": change, "bias": bias}
        return {name: each.detach() for name, each in found.items()}

    def _change(self, error: Tensor, level: Tensor, weight: Tensor) -> Tensor:
        """What the ellipses of the twins change; means count twice as much as in the loss of the noise."""
        if not self.twins:
            return error.new_zeros(())
        first, end = slice(0, self.twins), len(error) - 2 * self.draws
        change = error[end - self.twins : end] - error[first]
        return relative_loss(change, level[first], weight[first], {side: 2 * part for side, part in self.means.items()})

    def _squared_bias(self, relative_error: Tensor) -> Tensor:
        """Mean product of the errors of two draws, without the noise that differs."""
        if not self.draws:
            return relative_error.new_zeros(())
        one, other = relative_error[-2 * self.draws :].chunk(2)
        return (one * other).mean()

    def removed(self, noisy: Tensor) -> Tensor:
        """What the network takes away, (N, 1, H, W), HU."""
        x = self.window.to_unit(noisy).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, AMP_TYPES[self.amp], enabled=self.amp != "no"):
            answer = self.network(x).to(x.dtype)
        estimate = x - answer if self.part == "h" else answer
        return noisy - self.window.to_hu(estimate.clamp(-1.02, 1.02))


def relative(error: Tensor, level: Tensor, weight: Tensor) -> Tensor:
    """Error over noise level, both HU, (N, 1, H, W) and (N,)."""
    return error * weight / (level + LEAST_LEVEL_HU)[:, None, None, None]


def relative_loss(error: Tensor, level: Tensor, weight: Tensor, means: Mapping[int, float]) -> Tensor:
    """Charbonnier loss of error over noise level, both HU, and of its means of squares: side to weight."""
    found = relative(error, level, weight)
    coarse = (part * charbonnier(functional.avg_pool2d(found, side), COARSE / side) for side, part in means.items())
    return charbonnier(found, FINE) + sum(coarse, found.new_zeros(()))


def charbonnier(x: Tensor, width: float) -> Tensor:
    """Mean of sqrt(x² + width²) - width: a square near 0, the absolute value far from it."""
    return ((x.square() + width**2).sqrt() - width).mean()
