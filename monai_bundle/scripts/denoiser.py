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

    Parameters
    ----------
    profile : str
        'abdomen' or 'chest'; names the HU window.
    gamma : float
        Weight of F(x) against x - H(x).
    """

    def __init__(self, profile: str = "abdomen", gamma: float = 0.5) -> None:
        super().__init__()
        self.window = HUWindow.of_profile(profile)
        self.gamma = gamma
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
        return torch.where(inside, denoised, image)

    def ensemble(self, x: Tensor) -> Tensor:
        """Equation (13) on images in [-1, 1]; the blend is clipped to [-1, 1]."""
        height, width = x.shape[2], x.shape[3]
        padded = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")  # F halves the size twice
        blend = self.gamma * self.f(padded) + (1 - self.gamma) * (padded - self.h(padded))
        return blend[:, :, :height, :width].clip(-1.0, 1.0)
