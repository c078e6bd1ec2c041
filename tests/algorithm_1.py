"""Algorithm 1 of ISCL translated term by term: what the shipped training step is compared with."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, RAdam

from monai_bundle.scripts.model.batch_instance_norm import EPSILON, BatchInstanceNorm2d
from monai_bundle.scripts.training.trainer import ISCLTrainer

NAMES = ("F", "G", "H", "DX", "DY")


class Algorithm1:
    """One iteration in the order of the authors' code; every loss has forward passes of its own.

    Parameters
    ----------
    networks : mapping of str to nn.Module
        F, G, H, DX, DY.
    optimizers : mapping of str to Optimizer
        'fg', 'd', 'h'.
    generators_first : bool
        The paper's order.
    without : set of str
        Terms that are left out.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        generators_first: bool = False,
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.networks, self.optimizers = networks, optimizers
        self.generators_first = generators_first
        self.without = without

    @classmethod
    def of(cls, trainer: ISCLTrainer, **options: Any) -> "Algorithm1":
        """With copies of a trainer's networks, normalized as the formula is printed, and new optimizers."""
        copies = [as_printed(network) for network in deepcopy(trainer.networks)]
        networks = dict(zip(NAMES, copies, strict=True))
        groups = {"fg": ("F", "G"), "d": ("DX", "DY"), "h": ("H",)}
        rate = trainer.fg_optimizer.param_groups[0]["lr"]
        optimizers = {
            key: RAdam([p for name in names for p in networks[name].parameters()], lr=rate, eps=1e-7)
            for key, names in groups.items()
        }
        return cls(networks, optimizers, **options)

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One iteration; returns the three sums that were minimized."""
        updates = [self.discriminators, self.generators, self.extractor]
        if self.generators_first:
            updates = [self.generators, self.discriminators, self.extractor]
        return {update.__name__.rstrip("s"): update(x, y) for update in updates}

    def discriminators(self, x: Tensor, y: Tensor) -> Tensor:
        """Equations (7) to (9) with the signs of the authors' code."""
        f, g, h, dx, dy = self.networks.values()
        relu = torch.relu
        loss = relu(1 - dy(y)).mean() + relu(1 - dx(x)).mean()
        loss = loss + relu(dy(f(x).detach())).mean() + relu(dx(g(y).detach())).mean()
        if "boosting" not in self.without:
            loss = loss + relu(dx(y + h(x).detach())).mean() + relu(dy(x - h(x).detach())).mean()
        return self._descend(loss, "d")

    def generators(self, x: Tensor, y: Tensor) -> Tensor:
        """Equation (1)."""
        f, g, h, dx, dy = self.networks.values()
        adversarial = -dy(f(x)).mean() - dx(g(y)).mean()
        nested = (x - g(f(x))).abs().mean() + (y - f(g(y))).abs().mean()
        if "bypass" not in self.without:
            n = h(x).detach()
            nested = nested + (f(x) - (x - n)).abs().mean() + (y - f(y + n)).abs().mean()
        return self._descend(adversarial + 30 * nested, "fg")

    def extractor(self, x: Tensor, y: Tensor) -> Tensor:
        """Equation (12)."""
        f, g, h, _, _ = self.networks.values()
        loss = torch.zeros((), dtype=x.dtype, requires_grad=True)
        if "pseudo_noise" not in self.without:
            loss = loss + (h(x) - (x - f(x).detach())).abs().mean()
        if "noise_consistency" not in self.without:
            loss = loss + (g(y).detach() - y - h(g(y).detach())).abs().mean()
        return self._descend(loss, "h")

    def _descend(self, loss: Tensor, key: str) -> Tensor:
        optimizer = self.optimizers[key]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            p.grad = gradient
        optimizer.step()
        for network in self.networks.values():
            for module in network.modules():
                if isinstance(module, BatchInstanceNorm2d | BatchInstanceNormAsPrinted):
                    module.clip_gate()
        return loss.detach()


class BatchInstanceNormAsPrinted(nn.Module):
    """The formula, operation by operation; takes over the parameters of a :class:`BatchInstanceNorm2d`."""

    def __init__(self, norm: BatchInstanceNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.gate = norm.weight, norm.bias, norm.gate

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W) to the same shape."""
        weight, bias, gate = (p[:, None, None] for p in (self.weight, self.bias, self.gate))
        return weight * (gate * normalized(x, (0, 2, 3)) + (1 - gate) * normalized(x, (2, 3))) + bias

    def clip_gate(self) -> None:
        """Keep the gate within [0, 1]."""
        with torch.no_grad():
            self.gate.clamp_(0.0, 1.0)


def normalized(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean 0 and variance 1 over ``dims``."""
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(dims, keepdim=True) + EPSILON).sqrt()


def as_printed(network: nn.Module) -> nn.Module:
    """The network with the formula in every place of a Batch-Instance Normalization."""
    for name, child in network.named_children():
        if isinstance(child, BatchInstanceNorm2d):
            setattr(network, name, BatchInstanceNormAsPrinted(child))
        else:
            as_printed(child)
    return network


def unit_batch(count: int, size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Noisy and clean, each (count, 1, size, size) in [-1, 1]."""
    random = torch.Generator().manual_seed(5)
    x, y = torch.rand(2, count, 1, size, size, generator=random, dtype=dtype) * 2 - 1
    return x, y
