"""The bundle's ``network_def``: HU in, HU out, so that no user of the model can scale wrongly."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch_instance_norm import drop_running_statistics, keep_running_statistics
from .folding import fold_normalization
from .generators import new_generator
from .networks import NoiseExtractor
from .noise_prior import NoisePrior
from .residual_unet import ResidualUNet, compute_in_bfloat16
from .window import HUWindow

PRECISIONS = ("float32", "bfloat16")
COARSE_NOISE = 0.4
"""What the residual generator takes too little of, see :class:`NoisePrior`."""


class ISCLDenoiser(nn.Module):
    r"""F and H with the HU window around them, blended as in equation (13).

    .. math:: \hat y = \gamma F(x) + (1 - \gamma)(x - H(x))

    Pixels outside the window come out exactly as they went in. Each image is denoised by itself,
    whatever its neighbours in the batch.

    Beyond the paper, what is removed is constrained to what can be noise, see :class:`NoisePrior`.

    Parameters
    ----------
    profile : str
        'full' (the whole HU range, companded), 'abdomen', 'chest' or 'em' (8-bit grey values in place of HU); names the
        window.
    gamma : float, optional
        Weight of F(x) against x - H(x); the paper's is 0.5, the default with the paper's generators. With the residual
        one it is 1: F alone. A network with the weight 0 is not run.
    noise_prior : bool, optional
        Constrain the removed noise; False is equation (13) as printed. By default for CT only: noise of electron
        microscopy (charging, film) has a mean, and keeps it with the constraint.
    coarse_noise : float, optional
        How much more is taken of coarse noise, see :class:`NoisePrior`; by default 0.4 with the residual generator,
        where it was chosen on validation patients, and 0 with the paper's.
    running_statistics : bool
        Keep running averages for evaluation, see :func:`keep_running_statistics`. Loading weights sets it to what
        they were trained with.
    generator : str, optional
        'paper' or 'residual', see :func:`.generators.new_generator`; by default the residual one for profile 'full'.
    precision : str
        'float32', or 'bfloat16' for inference with the residual generator: all but its first layer compute in bfloat16.

    Raises
    ------
    ValueError
        If there is no such profile, generator or precision.
    """

    def __init__(
        self,
        profile: str = "abdomen",
        gamma: float | None = None,
        noise_prior: bool | None = None,
        running_statistics: bool = False,
        generator: str | None = None,
        precision: str = "float32",
        coarse_noise: float | None = None,
    ) -> None:
        super().__init__()
        self.window = HUWindow.of_profile(profile)
        self.generator = generator or ("residual" if profile == "full" else "paper")
        if gamma is None:
            gamma = 1.0 if self.generator == "residual" else 0.5
        self.gamma = float(gamma)
        if noise_prior is None:
            noise_prior = profile != "em"
        if coarse_noise is None:
            coarse_noise = COARSE_NOISE if self.generator == "residual" else 0.0
        self.noise_prior = NoisePrior(coarse=coarse_noise) if noise_prior else None
        self.f = new_generator(self.generator, window=self.window)
        self.h: NoiseExtractor | None = NoiseExtractor()
        if running_statistics:
            keep_running_statistics(self)
        self.to(memory_format=torch.channels_last)
        self._set_precision(precision)

    def _set_precision(self, precision: str) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; there are {', '.join(PRECISIONS)}")
        if precision == "bfloat16":
            if not isinstance(self.f, ResidualUNet):
                raise ValueError("precision 'bfloat16' needs the residual generator")
            compute_in_bfloat16(self.f)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights.

        Their running statistics come along, or are dropped where the weights have none; H too, where F does it all.
        """
        has_statistics = any(key.endswith("running_mean") for key in state_dict)
        (keep_running_statistics if has_statistics else drop_running_statistics)(self)
        if self.gamma == 1 and not any(key.startswith("h.") for key in state_dict):
            self.h = None
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
        if self.gamma == 1.0:
            return self.first_estimate(x).clip(-1.0, 1.0)
        if self.gamma == 0.0:
            return self.second_estimate(x).clip(-1.0, 1.0)
        return (self.gamma * self.first_estimate(x) + (1 - self.gamma) * self.second_estimate(x)).clip(-1.0, 1.0)

    def first_estimate(self, x: Tensor) -> Tensor:
        """F(x) of images in [-1, 1], (N, 1, H, W), not clipped."""
        height, width = x.shape[2], x.shape[3]
        padded = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")  # F halves the size twice
        return self.f(padded.contiguous(memory_format=torch.channels_last))[:, :, :height, :width]

    def second_estimate(self, x: Tensor) -> Tensor:
        """x - H(x) of images in [-1, 1], (N, 1, H, W), not clipped."""
        if self.h is None:
            raise ValueError("these weights have no H: gamma is 1")
        return x - self.h(x.contiguous(memory_format=torch.channels_last))

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
