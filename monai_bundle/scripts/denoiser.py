"""The bundle's ``network_def``: HU in, HU out, so that no user of the model can scale wrongly."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .networks import Generator, NoiseExtractor
from .window import HUWindow


class ISCLDenoiser(nn.Module):
    r"""F and H with the HU window around them, blended as in equation (13).

    .. math:: \hat y = \gamma F(x) + (1 - \gamma)(x - H(x))

    Pixels outside the window come out exactly as they went in. Each image is denoised by itself,
    whatever its neighbours in the batch.

    Beyond the paper, the removed noise is made to have no local mean. The noise power spectrum of
    filtered back-projection vanishes at frequency zero (Riederer et al., Phys. Med. Biol. 23, 1978), so
    a removed noise that is smooth is an error of the networks, and it would shift the HU of an organ.

    Parameters
    ----------
    profile : str
        'abdomen' or 'chest'; names the HU window.
    gamma : float
        Weight of F(x) against x - H(x); the paper's is 0.5.
    mean_pixels : int
        Side of the square, an odd number of pixels, in which the removed noise has no mean; 0 is
        equation (13) as printed.
    """

    def __init__(self, profile: str = "abdomen", gamma: float = 0.5, mean_pixels: int = 15) -> None:
        super().__init__()
        if mean_pixels % 2 == 0 and mean_pixels != 0:
            raise ValueError(f"mean_pixels is {mean_pixels}; it must be odd, or 0")
        self.window = HUWindow.of_profile(profile)
        self.gamma = gamma
        self.mean_pixels = mean_pixels
        self.f = Generator()
        self.h = NoiseExtractor()

    def forward(self, image: Tensor) -> Tensor:
        """Denoise.

        Parameters
        ----------
        image : Tensor
            (N, 1, H, W) float32, HU; any size.

        Returns
        -------
        Tensor
            (N, 1, H, W) float32, HU.
        """
        denoised = self.window.to_hu(self.ensemble(self.window.to_unit(image)))
        inside = (image >= self.window.low) & (image <= self.window.high)
        if self.mean_pixels > 0:
            denoised = denoised + self.local_mean(image - denoised, inside)
        return torch.where(inside, denoised, image)

    def local_mean(self, noise: Tensor, inside: Tensor) -> Tensor:
        """Mean of the noise over the pixels inside the window around each pixel, (N, 1, H, W)."""
        weight = inside.to(noise.dtype)
        return self._box(noise * weight) / self._box(weight).clamp_min(1e-6)

    def _box(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(
            x, self.mean_pixels, stride=1, padding=self.mean_pixels // 2, count_include_pad=False
        )

    def ensemble(self, x: Tensor) -> Tensor:
        """Equation (13) on images in [-1, 1]; the blend is clipped to [-1, 1]."""
        height, width = x.shape[2], x.shape[3]
        padded = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")  # F halves the size twice
        blend = self.gamma * self.f(padded) + (1 - self.gamma) * (padded - self.h(padded))
        return blend[:, :, :height, :width].clip(-1.0, 1.0)
