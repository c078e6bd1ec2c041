"""The window: what the networks see of an image."""

import math

import torch
from torch import Tensor, nn

PROFILES = {
    "full": (-1024.0, 3071.0),
    "abdomen": (-160.0, 240.0),
    "chest": (-400.0, 1000.0),
    "em": (0.0, 255.0),
}
"""Ends of the windows: all HU that 12 bits hold, the paper's two (Fig. 4), and all grey values of 8 bits for electron
microscopy."""


class HUWindow(nn.Module):
    """An interval of HU that is mapped to [-1, 1]; a module without weights, so that TorchScript takes it along.

    Parameters
    ----------
    low, high : float
        Ends of the interval, HU (grey values in profile em, where this is so wherever HU is said).
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low = low
        self.high = high

    @classmethod
    def of_profile(cls, profile: str) -> "HUWindow":
        """The window of a named profile.

        Raises
        ------
        ValueError
            If there is no such profile.
        """
        if profile not in PROFILES:
            raise ValueError(f"profile {profile!r} is unknown; there are {', '.join(PROFILES)}")
        return CompandedWindow(*PROFILES[profile]) if profile == "full" else cls(*PROFILES[profile])

    def to_unit(self, hu: Tensor) -> Tensor:
        """Clip HU to the window and map to [-1, 1]; any shape."""
        return (hu.clip(self.low, self.high) - self.low) * (2.0 / (self.high - self.low)) - 1.0

    def to_hu(self, unit: Tensor) -> Tensor:
        """Map [-1, 1] back to HU; any shape."""
        return (unit + 1.0) * ((self.high - self.low) / 2.0) + self.low

    def contrast(self) -> tuple[float, float]:
        """Scale and shift that a residual generator begins with, see :class:`.residual_unet.ResidualUNet`."""
        return 1.0, 0.0

    def measured(self) -> tuple[float, float]:
        """Ends of the interval that images are measured and shown in, HU."""
        return self.low, self.high

    def slope(self, hu: Tensor) -> Tensor:
        """How much a HU counts here, 1 at most: the slope of :meth:`to_unit` by its largest; any shape."""
        return torch.ones_like(hu)


class CompandedWindow(HUWindow):
    """The whole HU range, soft tissue and fat in full contrast, lung and bone compressed.

    From ``inner_low`` to ``inner_high`` the scale is even; beyond, a distance d (HU) becomes bend * log(1 + d / bend),
    whose slope begins at 1, so that no step and no kink is anywhere: noise never meets a window's end in tissue.

    Parameters
    ----------
    low, high : float
        Ends of the interval, HU.
    inner_low, inner_high : float
        Ends of the even part, HU.
    bend : float
        Distance from the even part at which the slope is a half, HU.
    """

    def __init__(
        self, low: float, high: float, inner_low: float = -250.0, inner_high: float = 350.0, bend: float = 400.0
    ) -> None:
        super().__init__(low, high)
        self.inner_low = inner_low
        self.inner_high = inner_high
        self.bend = bend
        self.bottom = inner_low - bend * math.log1p((inner_low - low) / bend)
        self.top = inner_high + bend * math.log1p((high - inner_high) / bend)

    def to_unit(self, hu: Tensor) -> Tensor:
        """Clip HU to the window and map to [-1, 1]; any shape."""
        hu = hu.clip(self.low, self.high)
        above = torch.log(1.0 + (hu - self.inner_high).clamp_min(0.0) / self.bend)  # ONNX knows no log1p
        below = torch.log(1.0 + (self.inner_low - hu).clamp_min(0.0) / self.bend)
        companded = hu.clip(self.inner_low, self.inner_high) + self.bend * (above - below)
        return (companded - self.bottom) * (2.0 / (self.top - self.bottom)) - 1.0

    def to_hu(self, unit: Tensor) -> Tensor:
        """Map [-1, 1] back to HU; any shape."""
        companded = (unit + 1.0) * ((self.top - self.bottom) / 2.0) + self.bottom
        above = torch.exp((companded - self.inner_high).clamp_min(0.0) / self.bend) - 1.0
        below = torch.exp((self.inner_low - companded).clamp_min(0.0) / self.bend) - 1.0
        return companded.clip(self.inner_low, self.inner_high) + self.bend * (above - below)

    def contrast(self) -> tuple[float, float]:
        """Those that give soft tissue the contrast of the abdomen's window."""
        return (self.top - self.bottom) / 400.0, ((self.top + self.bottom) / 2.0 - 40.0) / 200.0

    def measured(self) -> tuple[float, float]:
        """Soft tissue: errors in the whole range would be those of air and bone."""
        return -160.0, 240.0

    def slope(self, hu: Tensor) -> Tensor:
        """How much a HU counts here: 1 in the even part, less beyond; any shape."""
        beyond = torch.maximum(hu - self.inner_high, self.inner_low - hu).clamp_min(0.0)
        return 1.0 / (1.0 + beyond / self.bend)
