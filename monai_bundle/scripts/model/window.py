"""The window: what the networks see of an image."""

from torch import Tensor, nn

PROFILES = {"abdomen": (-160.0, 240.0), "chest": (-400.0, 1000.0), "em": (0.0, 255.0)}
"""Ends of the windows: HU of the paper's two (Fig. 4), and all grey values of 8 bits for electron microscopy."""


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
        return cls(*PROFILES[profile])

    def to_unit(self, hu: Tensor) -> Tensor:
        """Clip HU to the window and scale to [-1, 1]; any shape."""
        return (hu.clip(self.low, self.high) - self.low) * (2.0 / (self.high - self.low)) - 1.0

    def to_hu(self, unit: Tensor) -> Tensor:
        """Scale [-1, 1] back to HU; any shape."""
        return (unit + 1.0) * ((self.high - self.low) / 2.0) + self.low
