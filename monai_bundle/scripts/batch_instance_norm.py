"""Batch-Instance Normalization (Nam and Kim, NeurIPS 2018), as ISCL uses it."""

import torch
from torch import Tensor, nn

EPSILON = 1e-7
"""Added to every variance; the value of the paper's released code (Keras' default epsilon is larger)."""


class BatchInstanceNorm2d(nn.Module):
    r"""Gate between batch and instance normalization, one gate per channel.

    .. math:: y = \gamma (\rho\, \hat x_{BN} + (1 - \rho)\, \hat x_{IN}) + \beta

    No running averages exist: while training, the batch branch uses the statistics of the batch in
    hand. In evaluation mode each image is normalized by itself, which is what a batch of one gives
    for any gate, so that the result for an image does not depend on its neighbours in the batch.

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
        self.epsilon = EPSILON  # TorchScript sees attributes, not globals
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gate = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W) to the same shape."""
        image_var, image_mean = torch.var_mean(x, dim=(2, 3), correction=0)  # (N, C)
        image_scale = torch.rsqrt(image_var + self.epsilon)
        if not self.training:
            return self._affine(x, image_scale, image_mean * image_scale)
        batch_mean = image_mean.mean(0)  # (C,)
        batch_var = image_var.mean(0) + image_mean.var(0, correction=0)
        batch_scale = torch.rsqrt(batch_var + self.epsilon)
        scale, shift = self.gate * batch_scale, self.gate * batch_mean * batch_scale
        if x.shape[2] * x.shape[3] > 1:  # a map of one pixel minus its own mean is zero
            scale = scale + (1 - self.gate) * image_scale
            shift = shift + (1 - self.gate) * image_mean * image_scale
        return self._affine(x, scale, shift)

    def _affine(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        a = (self.weight * scale).expand(x.shape[:2])[:, :, None, None]
        b = (self.bias - self.weight * shift).expand(x.shape[:2])[:, :, None, None]
        return torch.addcmul(b, x, a)

    @torch.no_grad()
    def clip_gate(self) -> None:
        """Keep the gate within [0, 1]; called after every optimizer step (Nam and Kim, section 3.2)."""
        self.gate.clamp_(0.0, 1.0)


def clip_gates(network: nn.Module) -> None:
    """Clip the gates of every Batch-Instance Normalization inside ``network``."""
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            module.clip_gate()
