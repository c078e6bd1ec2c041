"""What the node asks of a denoiser."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from iscl_node.domain import ModelIdentity

Slice = npt.NDArray[np.float32]
"""One CT image, (H, W) float32, HU."""


class Denoiser(Protocol):
    """Turns one slice into one slice; may be called from several threads."""

    @property
    def model(self) -> ModelIdentity:
        """Which model this is, for every derived object."""

    def denoise(self, hu: Slice) -> Slice:
        """Denoise one slice, (H, W) float32 HU to the same."""


def blend(source_hu: Slice, denoised_hu: Slice, strength: float) -> Slice:
    """Source minus ``strength`` times the removed noise, (H, W) float32 HU; 0 gives the source itself."""
    return source_hu + np.float32(strength) * (denoised_hu - source_hu)
