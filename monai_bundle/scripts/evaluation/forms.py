"""What the parts of the model make of one image: F, x - H, equation (13) for any gamma, and the bundle's result."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import Inferer
from torch import Tensor

from ..model.denoiser import ISCLDenoiser

FORMS = ("input", "F", "x - H", "ensemble", "denoised")
"""In the order of tables and figures; 'ensemble' is equation (13) as printed, 'denoised' has the noise prior."""


@dataclass(frozen=True)
class Estimates:
    """F(x) and x - H(x) of one image, from which every form follows without another pass of a network.

    Parameters
    ----------
    denoiser : ISCLDenoiser
        Whose networks made them.
    image : Tensor
        (1, 1, H, W), HU.
    f, h : Tensor
        F(x) and x - H(x), (1, 1, H, W), in units of the window, not clipped; without H there is no second one.
    """

    denoiser: ISCLDenoiser
    image: Tensor
    f: Tensor
    h: Tensor | None

    def blend(self, gamma: float) -> npt.NDArray[np.float32]:
        """Equation (13) as printed, (H, W) HU; pixels outside the window are those of the image."""
        window = self.denoiser.window
        inside = (self.image >= window.low) & (self.image <= window.high)
        return _slice(torch.where(inside, window.to_hu(self._mixed(gamma)), self.image))

    def forms(self) -> dict[str, npt.NDArray[np.float32]]:
        """Every form, (H, W) HU; without H what needs it is missing."""
        gamma = self.denoiser.gamma
        denoised = _slice(self.denoiser.place(self._mixed(gamma), self.image))
        if self.h is None:
            return {"input": _slice(self.image), "F": self.blend(1.0), "denoised": denoised}
        images = _slice(self.image), self.blend(1.0), self.blend(0.0), self.blend(gamma), denoised
        return dict(zip(FORMS, images, strict=True))

    def _mixed(self, gamma: float) -> Tensor:
        mixed = self.f if self.h is None else gamma * self.f + (1 - gamma) * self.h
        return mixed.clip(-1.0, 1.0)


class EstimatesInferer(Inferer):
    """Run both networks once on a batch of one image, (1, 1, H, W) HU."""

    def __call__(self, inputs: Tensor, network: ISCLDenoiser, *args: Any, **kwargs: Any) -> Estimates:
        """Return the :class:`Estimates` of the image."""
        x = network.window.to_unit(inputs)
        h = None if network.h is None else network.second_estimate(x)
        return Estimates(network, inputs, network.first_estimate(x), h)


def _slice(image: Tensor) -> npt.NDArray[np.float32]:
    return image[0, 0].numpy(force=True)
