"""The three kinds of network of ISCL (Lee and Jeong, IEEE TMI 2021, Fig. 3): one grey channel, values in [-1, 1].

``F`` (noisy to clean) and ``G`` (clean to noisy) are :class:`Generator`, ``H`` is :class:`NoiseExtractor`,
``DX`` (noisy) and ``DY`` (clean) are :class:`Discriminator`. Leaky ReLU has slope 0.2 everywhere, every
convolution has a bias.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch_instance_norm import BatchInstanceNorm2d, keep_running_statistics

SLOPE = 0.2
KERNEL_STD = 0.05
"""Kernels start from a normal distribution of this standard deviation, cut at two of them."""


class SymmetricPad2d(nn.Module):
    """Mirror the border including the edge pixel, by ``width`` on every side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H + 2 width, W + 2 width)."""
        if self.width == 1:  # a mirror of one pixel is a copy of the edge
            return functional.pad(x, (1, 1, 1, 1), mode="replicate")
        for dim in (2, 3):  # indexing would take sixteen times as long
            first, last = x.narrow(dim, 0, self.width), x.narrow(dim, x.shape[dim] - self.width, self.width)
            x = torch.cat([first.flip([dim]), x, last.flip([dim])], dim)
        return x


class CroppedConvTranspose2d(nn.ConvTranspose2d):
    """Transposed 3x3 convolution of stride 2 that doubles the size: the last row and column are dropped.

    This is TensorFlow's 'same' padding; PyTorch's ``output_padding`` would shift the result by one pixel.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', 2H, 2W)."""
        return functional.conv_transpose2d(x, self.weight, self.bias, stride=2)[:, :, :-1, :-1]


class ResidualBlock(nn.Module):
    """x + BIN(conv3(LReLU(BIN(conv3(x))))), no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            SymmetricPad2d(1),
            nn.Conv2d(channels, channels, 3),
            BatchInstanceNorm2d(channels),
            nn.LeakyReLU(SLOPE, inplace=True),
            SymmetricPad2d(1),
            nn.Conv2d(channels, channels, 3),
            BatchInstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x + self.body(x)


class Generator(nn.Sequential):
    """F or G: 7x7, two strided 4x4, three residual blocks, two transposed 3x3, 7x7 and tanh.

    Input and output (N, 1, H, W) in [-1, 1], H and W multiples of 4. 1,148,225 parameters.

    Parameters
    ----------
    running_statistics : bool
        See :func:`.batch_instance_norm.keep_running_statistics`.
    """

    def __init__(self, running_statistics: bool = False) -> None:
        super().__init__(
            SymmetricPad2d(3),
            *_normalized(nn.Conv2d(1, 32, 7), 32),
            SymmetricPad2d(1),
            *_normalized(nn.Conv2d(32, 64, 4, stride=2), 64),
            SymmetricPad2d(1),
            *_normalized(nn.Conv2d(64, 128, 4, stride=2), 128),
            *(ResidualBlock(128) for _ in range(3)),
            *_normalized(CroppedConvTranspose2d(128, 64), 64),
            *_normalized(CroppedConvTranspose2d(64, 32), 32),
            SymmetricPad2d(3),
            nn.Conv2d(32, 1, 7),
            nn.Tanh(),
        )
        self.apply(initialize)
        if running_statistics:
            keep_running_statistics(self)


class NoiseExtractor(nn.Sequential):
    """H: twenty 3x3 convolutions of 32 channels with zero padding; the output is the noise, unbounded.

    Input and output (N, 1, H, W). 168,801 parameters.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            *(layer for _ in range(18) for layer in _normalized(nn.Conv2d(32, 32, 3, padding=1), 32)),
            nn.Conv2d(32, 1, 3, padding=1),
        )
        self.apply(initialize)


class Discriminator(nn.Sequential):
    """DX or DY: one score for a 64x64 patch, a 5x5 map for 128x128.

    Input (N, 1, H, W) with H and W at least 64. 2,790,177 parameters.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            *_normalized(nn.Conv2d(32, 64, 4, stride=2, padding=1), 64),
            *_normalized(nn.Conv2d(64, 128, 4, stride=2, padding=1), 128),
            *_normalized(nn.Conv2d(128, 256, 4, stride=2, padding=1), 256),
            *_normalized(nn.Conv2d(256, 512, 4), 512),
            nn.Conv2d(512, 1, 1),
        )
        self.apply(initialize)


def _normalized(conv: nn.Module, channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return conv, BatchInstanceNorm2d(channels), nn.LeakyReLU(SLOPE, inplace=True)


def initialize(module: nn.Module) -> None:
    """Truncated normal kernels and zero biases, for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.trunc_normal_(module.weight, std=KERNEL_STD, a=-2 * KERNEL_STD, b=2 * KERNEL_STD)
        nn.init.zeros_(module.bias)
