"""The bundle's ``network_def``: HU in, HU out, so that no user of the model can scale wrongly."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch_instance_norm import drop_running_statistics, keep_running_statistics
from .folding import fold_normalization
from .networks import Generator, NoiseExtractor
from .noise_prior import NoisePrior
from .residual_unet import ResidualUNet
from .window import HUWindow


class ISCLDenoiser(nn.Module):
    r"""F and H with the HU window around them, blended as in equation (13).

    .. math:: \hat y = \gamma F(x) + (1 - \gamma)(x - H(x))

    Pixels outside the window come out exactly as they went in. Each image is denoised by itself,
    whatever its neighbours in the batch.

    Beyond the paper, what is removed is constrained to what can be noise, see :class:`NoisePrior`.

    Parameters
    ----------
    profile : str
        'abdomen', 'chest' or 'em' (8-bit grey values in place of HU); names the window.
    gamma : float
        Weight of F(x) against x - H(x); the paper's is 0.5.
    noise_prior : bool, optional
        Constrain the removed noise; False is equation (13) as printed. By default for CT only: noise of electron
        microscopy (charging, film) has a mean, and keeps it with the constraint.
    running_statistics : bool
        Keep running averages for evaluation, see :func:`keep_running_statistics`. Loading weights sets it to what
        they were trained with.
    """

    def __init__(
        self,
        profile: str = "abdomen",
        gamma: float = 0.5,
        noise_prior: bool | None = None,
        running_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.window = HUWindow.of_profile(profile)
        self.gamma = gamma
        if noise_prior is None:
            noise_prior = profile != "em"
        self.noise_prior = NoisePrior() if noise_prior else None
        self.f = Generator()
        self.h = NoiseExtractor()
        if running_statistics:
            keep_running_statistics(self)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights; their running statistics come along, or are dropped where the weights have none."""
        has_statistics = any(key.endswith("running_mean") for key in state_dict)
        (keep_running_statistics if has_statistics else drop_running_statistics)(self)
        return super().load_state_dict(state_dict, *args, **kwargs)

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
        return self.place(self.ensemble(self.window.to_unit(image)), image)

    def ensemble(self, x: Tensor) -> Tensor:
        """Equation (13) on images in [-1, 1]; the blend is clipped to [-1, 1]."""
        f, h = self.estimates(x)
        return (self.gamma * f + (1 - self.gamma) * h).clip(-1.0, 1.0)

    def estimates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x) and x - H(x) of images in [-1, 1], both (N, 1, H, W) and not clipped."""
        height, width = x.shape[2], x.shape[3]
        padded = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")  # F halves the size twice
        f, h = self.f(padded), padded - self.h(padded)
        return f[:, :, :height, :width], h[:, :, :height, :width]

    def place(self, estimate: Tensor, image: Tensor) -> Tensor:
        """Put an estimate in [-1, 1] into its image (HU): within the window, and constrained by the noise prior."""
        noise = image - self.window.to_hu(estimate)
        inside = (image >= self.window.low) & (image <= self.window.high)
        if self.noise_prior is not None:
            noise = self.noise_prior(noise, inside)
        return torch.where(inside, image - noise, image)

    def prepare_inference(self) -> None:
        """Fold what can be folded; for inference alone, after the weights are loaded."""
        fold_normalization(self)

    def bfloat16_is_enough(self) -> bool:
        """Whether convolutions may compute in bfloat16: of a network that estimates the noise, but for its first layer.

        The paper's F gives the image itself, whose HU are coarse in it.
        """
        return isinstance(self.f, ResidualUNet)
