"""Batch-Instance Normalization (Nam and Kim, NeurIPS 2018), as ISCL uses it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

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

        self.frozen = False
        self.register_buffer("running_mean", None)
        self.register_buffer("running_var", None)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W) to the same shape."""
        if self.training and not self.frozen:
            return self._trained(x)
        if self.running_mean is None:
            return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.epsilon, False)
        if self.frozen or bool((self.gate == 1).all()):
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.epsilon
            )
        of_image = torch.instance_norm(x, None, None, None, None, True, 0.0, self.epsilon, False)
        of_batch = functional.batch_norm(x, self.running_mean, self.running_var, eps=self.epsilon)
        gate, weight, bias = self.gate[:, None, None], self.weight[:, None, None], self.bias[:, None, None]
        return weight * torch.lerp(of_image, of_batch, gate) + bias

    @torch.jit.unused
    def _trained(self, x: Tensor) -> Tensor:
        precise = x if x.dtype == torch.float64 else x.float()  # statistics never in half precision
        result, mean, var = BatchInstanceNormFunction.apply(precise, self.weight, self.bias, self.gate, self.epsilon)
        if self.running_mean is not None:
            count = x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)  # unbiased
        return result.to(x.dtype)

    @torch.no_grad()
    def clip_gate(self) -> None:
        """Keep the gate within [0, 1]; called after every optimizer step (Nam and Kim, section 3.2)."""
        self.gate.clamp_(0.0, 1.0)


class BatchInstanceNormFunction(Function):
    """The training form in few passes over the images: two and a half forward, four backward.

    Both branches are affine in x with coefficients per image and channel, the statistics of the batch follow
    from those of its images, and the gradient is affine in x and in the gradient of the result. All else is
    arithmetic on (N, C).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalized images (N, C, H, W), and mean and variance of the batch (C,)."""
        image_mean, image_var = image_statistics(x)
        batch_mean = image_mean.mean(0)
        batch_var = image_var.mean(0) + image_mean.var(0, correction=0)
        batch_scale = torch.rsqrt(batch_var + epsilon)
        image_scale = torch.rsqrt(image_var + epsilon)
        if x.shape[2] * x.shape[3] == 1:  # a map of one pixel minus its own mean is zero
            image_scale = torch.zeros_like(image_scale)
        batch_part, image_part = gate * batch_scale, (1 - gate) * image_scale
        slope = weight * (batch_part + image_part)
        offset = bias - weight * (batch_part * batch_mean + image_part * image_mean)
        ctx.save_for_backward(x, weight, gate, slope, image_mean, image_scale, batch_mean, batch_scale)
        ctx.mark_non_differentiable(batch_mean, batch_var)
        return torch.addcmul(per_map(offset), x, per_map(slope)), batch_mean, batch_var

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight, bias and gate."""
        x, weight, gate, slope, image_mean, image_scale, batch_mean, batch_scale = ctx.saved_tensors
        pixels = x.shape[2] * x.shape[3]
        total, image_moment = image_sums(gradient, x, image_mean)  # sums of g and of g (x - mean), (N, C)
        batch_total = total.sum(0)
        batch_moment = (image_moment + (image_mean - batch_mean) * total).sum(0)
        of_batch, of_image = batch_scale * batch_moment, (image_scale * image_moment).sum(0)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            batch_part = weight * gate * batch_scale / (pixels * len(x))
            image_part = weight * (1 - gate) * image_scale / pixels
            batch_slope = batch_part * batch_scale**2 * batch_moment
            image_slope = image_part * image_scale**2 * image_moment
            offset = batch_slope * batch_mean + image_slope * image_mean - batch_part * batch_total - image_part * total
            x_gradient = torch.addcmul(per_map(offset), gradient, per_map(slope))
            x_gradient.addcmul_(x, per_map(-batch_slope - image_slope))
        weight_gradient = gate * of_batch + (1 - gate) * of_image
        return x_gradient, weight_gradient, batch_total, weight * (of_batch - of_image), None


def per_map(coefficients: Tensor) -> Tensor:
    """(N, C) to (N, C, 1, 1)."""
    return coefficients[:, :, None, None]


def image_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every map of (N, C, H, W), each (N, C)."""
    if x.device.type != "cpu":
        var, mean = torch.var_mean(x, dim=(2, 3), correction=0)
        return mean, var
    # On the processor var_mean takes twenty times as long as this kernel, which knows channels-last images.
    means, variances = zip(
        *(torch.batch_norm_update_stats(image, None, None, 0.0) for image in x.split(1)), strict=True
    )
    return torch.stack(means), torch.stack(variances)


def image_sums(gradient: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of ``gradient`` and of ``gradient * (x - mean)`` over every map, each (N, C)."""
    if x.device.type != "cpu":
        return gradient.sum((2, 3)), (gradient * (x - per_map(mean))).sum((2, 3))
    one = torch.ones_like(mean[0])
    sums = [
        torch.ops.aten.native_batch_norm_backward(g, image, None, None, None, m, one, True, 0.0, [False, True, True])
        for g, image, m in zip(gradient.split(1), x.split(1), mean, strict=True)
    ]
    return torch.stack([total for _, _, total in sums]), torch.stack([moment for _, moment, _ in sums])


def keep_running_statistics(network: nn.Module) -> None:
    """Let every Batch-Instance Normalization inside ``network`` use running averages in evaluation (Nam and Kim).

    They follow every call in training mode, whatever images it is given, and are saved with the weights.
    """
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            module.running_mean = torch.zeros_like(module.gate, requires_grad=False)
            module.running_var = torch.ones_like(module.gate, requires_grad=False)


def drop_running_statistics(network: nn.Module) -> None:
    """Undo :func:`keep_running_statistics`."""
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            module.running_mean = module.running_var = None


def freeze_statistics(network: nn.Module) -> None:
    """Normalize with the running averages while training too, and with nothing else: gates 1, both not learned.

    Training and evaluation then compute the same function, whatever the batch; for the last part of a
    training with running statistics.

    Raises
    ------
    ValueError
        If the network keeps no running statistics.
    """
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            if module.running_mean is None:
                raise ValueError("there are no running statistics to freeze; they need running_statistics")
            module.frozen = True
            module.gate.requires_grad_(False).fill_(1.0)


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
