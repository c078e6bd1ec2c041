"""Normalization whose statistics are fixed, multiplied into the convolution before it: one pass less over the image."""

from itertools import pairwise

import torch
from torch import nn

from .batch_instance_norm import BatchInstanceNorm2d


def fold_normalization(network: nn.Module) -> int:
    """Fold every normalization that is a scale and a shift per channel into the convolution before it, for inference.

    That is the case with running statistics and gates of 1: then nothing depends on the image. Others stay. Results
    differ by rounding alone. The state dict is another one afterwards.

    Returns
    -------
    int
        How many were folded.
    """
    folded = 0
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for (_, convolution), (name, norm) in pairwise(list(sequence.named_children())):
            is_convolution = isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
            if is_convolution and isinstance(norm, BatchInstanceNorm2d) and _is_fixed(norm):
                _fold(convolution, norm)
                setattr(sequence, name, nn.Identity())
                folded += 1
    return folded


def _is_fixed(norm: BatchInstanceNorm2d) -> bool:
    return norm.running_mean is not None and bool((norm.gate == 1).all())


@torch.no_grad()
def _fold(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: BatchInstanceNorm2d) -> None:
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.epsilon)
    of_outputs = (1, -1, 1, 1) if isinstance(convolution, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    bias = torch.zeros_like(scale) if convolution.bias is None else convolution.bias.double()
    weight = convolution.weight
    weight.copy_((weight.double() * scale.view(of_outputs)).to(weight.dtype))
    shifted = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    convolution.bias = nn.Parameter(shifted.to(weight.dtype), requires_grad=False)
