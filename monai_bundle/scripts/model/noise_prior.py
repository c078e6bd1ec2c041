"""What is known of CT noise beforehand, applied to the noise that the networks want to remove."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

COARSE_PIXELS = 1.6
"""Standard deviation of the Gaussian that tells coarse noise."""
LEVEL_PER_COARSE = 0.097
"""By so much the noise that is taken grows for each 1 of ``coarse``; measured in water with the residual generator."""


class NoisePrior(nn.Module):
    """Keep of a removed noise what can be noise.

    Not in the paper; it keeps the errors of the networks out of the image, where they would shift the
    HU of an organ or take away an edge.

    1. Noise has no local mean: the noise power spectrum of filtered back-projection vanishes at
       frequency zero (Riederer et al., Phys. Med. Biol. 23, 1978). What is smooth is given back.
    2. Where ``level_pixels`` is not 0: the level of noise is much the same in the whole slice. Where the removed
       noise is locally stronger than its mean level it holds structure, and is scaled down to the mean level. Off by
       default: noise is stronger in the middle of a body and in streaks, so this rule gives true noise back.

    3. Where ``coarse`` is not 0: so much more is taken of coarse noise, and a little less of all, so that the level of
       what is taken stays. A network is taught for least error; where it is not sure, as with coarse noise, it takes
       too little, and what is left is coarser than the noise that was there.

    All look at the pixels inside the HU window only.

    Parameters
    ----------
    mean_pixels : int
        Side of the square that has no mean, odd.
    level_pixels : int
        Side of the square in which the level is measured, odd; 0 switches the second rule off.
    coarse : float
        How much more is taken of the coarsest noise, as a share; 0 switches the third rule off.
    """

    def __init__(self, mean_pixels: int = 15, level_pixels: int = 0, coarse: float = 0.0) -> None:
        super().__init__()
        self.mean_pixels = mean_pixels
        self.level_pixels = level_pixels
        self.coarse = coarse
        self.gained = 1.0 + LEVEL_PER_COARSE * coarse
        self.register_buffer("kernel", _gaussian(COARSE_PIXELS), persistent=False)

    def forward(self, noise: Tensor, inside: Tensor) -> Tensor:
        """Constrain a removed noise.

        Parameters
        ----------
        noise : Tensor
            (N, 1, H, W), HU.
        inside : Tensor
            (N, 1, H, W) bool, the pixels inside the HU window.

        Returns
        -------
        Tensor
            (N, 1, H, W), HU, 0 outside the window.
        """
        weight = inside.to(noise.dtype)
        noise = (noise - local_mean(noise, weight, self.mean_pixels)) * weight
        if self.coarse != 0.0:
            noise = (noise + self.coarse * self._blurred(noise)) * weight / self.gained
        if self.level_pixels == 0:
            return noise
        level = local_mean(noise * noise, weight, self.level_pixels).sqrt()
        mean_level = (level * weight).sum((1, 2, 3), keepdim=True) / weight.sum((1, 2, 3), keepdim=True).clamp_min(1)
        return noise * (mean_level / level.clamp_min(1e-3)).clamp_max(1)

    def _blurred(self, noise: Tensor) -> Tensor:
        reach = self.kernel.shape[0] // 2
        kernel = self.kernel.to(noise.dtype)
        rows = functional.conv2d(noise, kernel[None, None, :, None], padding=(reach, 0))
        return functional.conv2d(rows, kernel[None, None, None, :], padding=(0, reach))


def _gaussian(sigma: float) -> Tensor:
    place = torch.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (place / sigma) ** 2)
    return weights / weights.sum()


def local_mean(x: Tensor, weight: Tensor, side: int) -> Tensor:
    """Weighted mean of x over the square of ``side`` pixels (odd) around each pixel, (N, 1, H, W)."""
    return _box_mean(x * weight, side) / _box_mean(weight, side).clamp_min(1e-6)


def _box_mean(x: Tensor, side: int) -> Tensor:
    return functional.avg_pool2d(x, side, stride=1, padding=side // 2, count_include_pad=False)
