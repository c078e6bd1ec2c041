"""Batch-Instance Normalization (Nam and Kim, NeurIPS 2018), as ISCL uses it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-7
"""Added to every variance; the value of the paper's released code (Keras' default epsilon is larger)."""

MOMENTUM = 0.1
"""Weight of the latest batch in the running statistics, Nam and Kim's (and PyTorch's) value."""


class BatchInstanceNorm2d(nn.Module):
    r"""Gate between batch and instance normalization, one gate per channel.

    .. math:: y = \gamma (\rho\, \hat x_{BN} + (1 - \rho)\, \hat x_{IN}) + \beta

    While training, the batch branch uses the statistics of the batch in hand. In evaluation mode each image is
    normalized by itself, which is what a batch of one gives for any gate, so that the result for an image does
    not depend on its neighbours in the batch. This is what the authors of ISCL do; Nam and Kim's batch branch
    uses running averages in evaluation, see :func:`keep_running_statistics`.

    Both branches are affine in ``x`` with coefficients per image and channel, and the statistics of
    the batch follow from those of its images, so the whole is one pass for statistics and one
    multiply-add.

    Parameters
    ----------
    channels : int
        Number of channels C of the input (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.epsilon, self.momentum = EPSILON, MOMENTUM  # TorchScript sees attributes, not globals
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gate = nn.Parameter(torch.ones(channels))

        self.register_buffer("running_mean", None)
        self.register_buffer("running_var", None)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W) to the same shape."""
        image_var, image_mean = torch.var_mean(x, dim=(2, 3), correction=0)  # (N, C)
        image_scale = torch.rsqrt(image_var + self.epsilon)
        batch_mean: Tensor | None = self.running_mean
        batch_var: Tensor | None = self.running_var
        if self.training:
            batch_mean = image_mean.mean(0)  # (C,)
            batch_var = image_var.mean(0) + image_mean.var(0, correction=0)
            self._follow(batch_mean, batch_var, x.numel() // x.shape[1])
        if batch_mean is None or batch_var is None:
            return self._affine(x, image_scale, image_mean * image_scale)
        batch_scale = torch.rsqrt(batch_var + self.epsilon)
        scale, shift = self.gate * batch_scale, self.gate * batch_mean * batch_scale
        if x.shape[2] * x.shape[3] > 1:  # a map of one pixel minus its own mean is zero
            scale = scale + (1 - self.gate) * image_scale
            shift = shift + (1 - self.gate) * image_mean * image_scale
        return self._affine(x, scale, shift)

    def _follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        running_mean, running_var = self.running_mean, self.running_var
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.detach(), self.momentum)
            running_var.lerp_(var.detach() * (count / max(count - 1, 1)), self.momentum)  # unbiased

    def _affine(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        a = (self.weight * scale).expand(x.shape[:2])[:, :, None, None]
        b = (self.bias - self.weight * shift).expand(x.shape[:2])[:, :, None, None]
        return torch.addcmul(b, x, a)

    @torch.no_grad()
    def clip_gate(self) -> None:
        """Keep the gate within [0, 1]; called after every optimizer step (Nam and Kim, section 3.2)."""
        self.gate.clamp_(0.0, 1.0)


def keep_running_statistics(network: nn.Module) -> None:
    """Let every Batch-Instance Normalization inside ``network`` use running averages in evaluation (Nam and Kim).

    They follow every call in training mode, whatever images it is given, and are saved with the weights.
    """
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            module.running_mean = torch.zeros_like(module.gate, requires_grad=False)
            module.running_var = torch.ones_like(module.gate, requires_grad=False)


def parameter_groups(
    networks: Sequence[nn.Module], learning_rate: float, gate_learning_rate_factor: float = 1.0
) -> list[dict[str, Any]]:
    """The parameters of ``networks`` for an optimizer, the gates with a learning rate of their own.

    Parameters
    ----------
    networks : sequence of nn.Module
        Optimized together.
    learning_rate : float
        Of everything but the gates.
    gate_learning_rate_factor : float
        Times the learning rate for the gates: 1 in the code of ISCL, 10 in that of Nam and Kim. Where it is 1
        there is one group.
    """
    parameters = [(name, p) for network in networks for name, p in network.named_parameters()]
    if gate_learning_rate_factor == 1:
        return [{"params": [p for _, p in parameters], "lr": learning_rate}]
    gates = [p for name, p in parameters if name.split(".")[-1] == "gate"]
    others = [p for name, p in parameters if name.split(".")[-1] != "gate"]
    return [{"params": others, "lr": learning_rate}, {"params": gates, "lr": gate_learning_rate_factor * learning_rate}]


def clip_gates(network: nn.Module) -> None:
    """Clip the gates of every Batch-Instance Normalization inside ``network``."""
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            module.clip_gate()
