"""What the node asks of a denoiser, and how much of the noise that it finds is taken away."""

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from iscl_node.domain import ModelIdentity

Slice = npt.NDArray[np.float32]
"""One CT image, (H, W) float32, HU."""

WindowHU = tuple[float, float]
"""Lower and upper end of a denoiser's window, HU."""

FADE_HU: Final = 40.0
"""Over so many HU beyond the window the change fades to zero. A denoiser that changes nothing beyond its window leaves
specks there: of the fat's noise, the part below -160 HU. On real slices at a quarter of the dose, 99.9 percent of the
noise that the shipped model finds is within 30 to 57 HU: a fade about as long takes the specks along and hardly ever
turns two values' order around. One twice as long gains nothing in the window (``tests/benchmarks/fade.py``)."""


class Denoiser(Protocol):
    """Turns one slice into one slice; may be called from several threads."""

    @property
    def model(self) -> ModelIdentity:
        """Which model this is, for every derived object."""

    @property
    def window_hu(self) -> WindowHU:
        """The HU that it was made for."""

    def denoise(self, hu: Slice) -> Slice:
        """Denoise one slice, (H, W) float32 HU to the same."""


def removable_noise(denoiser: Denoiser, source_hu: Slice, fade_hu: float = FADE_HU) -> Slice:
    """Return the noise that the denoiser finds in a slice, (H, W) float32 HU.

    What lies beyond the window by no more than the fade is shown to the denoiser at the window's end, so that it finds
    noise there too.
    """
    low, high = denoiser.window_hu
    is_near = (source_hu >= low - fade_hu) & (source_hu <= high + fade_hu)
    shown = np.where(is_near, source_hu.clip(low, high), source_hu).astype(np.float32)
    return shown - denoiser.denoise(shown)


def fade(source_hu: Slice, window_hu: WindowHU, fade_hu: float = FADE_HU) -> Slice:
    """Return the share of the noise that may go, (H, W) float32: 1 in the window, 0 from the fade's end on.

    It depends on the pixel's own value alone, and falls in a straight line between.
    """
    low, high = window_hu
    beyond_hu: Slice = np.maximum(np.maximum(low - source_hu, source_hu - high), 0)
    share: Slice = np.maximum(1 - beyond_hu / fade_hu, 0).astype(np.float32)
    return share


def blend(source_hu: Slice, noise_hu: Slice, strength: float, window_hu: WindowHU, fade_hu: float = FADE_HU) -> Slice:
    """Return the source minus ``strength`` times the noise, faded out beyond the window, (H, W) float32 HU.

    Beyond the fade, and with strength 0, the result is the source bit for bit, whatever the noise.
    """
    share = np.float32(strength) * fade(source_hu, window_hu, fade_hu)
    return np.where(share > 0, source_hu - share * noise_hu, source_hu)
