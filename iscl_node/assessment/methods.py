"""What is compared: slice and strength in, result out; a denoiser of the node and two classical methods."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.denoiser import Denoiser, blend, removable_noise
from iscl_node.dicom.judging.series import series_noise_level_hu
from iscl_node.dicom.judging.suitability import is_sharp
from iscl_node.domain.strength import SHARP_KERNEL, AutoStrength, StrengthChoice, chosen_strength
from iscl_node.errors import ConfigurationError

FloatImage = npt.NDArray[np.float32]

NLM_FACTORS: Final = (0.3, 0.45, 0.6, 0.8, 1.0, 1.3)
"""Filter parameter of non-local means over the noise."""
TV_FACTORS: Final = (0.3, 0.5, 0.7, 0.9, 1.2)
"""Weight of total variation over the noise."""
BM3D_FACTORS: Final = (0.5, 0.8, 1.1)
"""The noise that BM3D is given, relative to the true noise."""


class Method(Protocol):
    """Anything that makes a result of a slice."""

    name: str

    def prepare(self, hu: FloatImage) -> Callable[[float], FloatImage]:
        """Do the costly part for a slice, (H, W) HU; return what gives the result for any strength from 0 to 1."""


@dataclass(frozen=True)
class NodeMethod:
    """What the node makes with a denoiser."""

    name: str
    denoiser: Denoiser

    def prepare(self, hu: FloatImage) -> Callable[[float], FloatImage]:
        """Find the noise once."""
        noise = removable_noise(self.denoiser, hu)
        return lambda strength: blend(hu, noise, strength)


@dataclass(frozen=True)
class Strength:
    """How much of the noise is taken away, as a rule says it.

    Attributes
    ----------
    name : str
        For tables: 'auto', a preset, or a number.
    choice : float or AutoStrength
        What is meant.
    """

    name: str
    choice: StrengthChoice

    def of(
        self,
        images: Iterable[FloatImage],
        body_mm: float | None = None,
        kernel: str = "",
        slice_mm: float | None = None,
    ) -> float:
        """The share for images of one series, HU, of a body of this effective diameter and slices of this thickness."""
        level = series_noise_level_hu(images) if isinstance(self.choice, AutoStrength) else None
        found = (SHARP_KERNEL,) if is_sharp(kernel) else ()
        return chosen_strength(self.choice, level, body_mm, found, slice_mm).value


def method_of(text: str) -> NodeMethod:
    """A method from ``NAME=BUNDLE[:PROFILE]``, or ``NAME=MODULE:CALLABLE`` where the callable gives a denoiser.

    Raises
    ------
    ConfigurationError
        If it is neither.
    """
    name, _, origin = text.partition("=")
    place, _, part = origin.partition(":")
    if not place:
        raise ConfigurationError(f"{text!r} is no method; NAME=BUNDLE[:PROFILE] or NAME=MODULE:CALLABLE is")
    if Path(place).is_dir():
        return NodeMethod(name, load_bundle(Path(place), part or "full", "cpu"))
    try:
        denoiser: Denoiser = getattr(importlib.import_module(place), part)()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{text!r}: {place} is neither a bundle nor a module: {error}") from error
    return NodeMethod(name, denoiser)


@dataclass(frozen=True)
class BestOf:
    """A classical method with the parameter that suits a slice best, which is unknown without its reference."""

    name: str
    denoise: Callable[[FloatImage, float], FloatImage]
    factors: tuple[float, ...] = field(default=())

    def best(self, low: FloatImage, noise_hu: float, quality: Callable[[FloatImage], float]) -> FloatImage:
        """The result of the highest quality."""
        return max((self.denoise(low, factor * noise_hu) for factor in self.factors), key=quality)


def non_local_means(hu: FloatImage, filtering_hu: float) -> FloatImage:
    """Non-local means, patches of 5 pixels within 15; (H, W) HU."""
    shown = hu.clip(-1024, 1500)
    return np.asarray(
        denoise_nl_means(shown, h=filtering_hu, sigma=0, patch_size=5, patch_distance=7, fast_mode=True), np.float32
    )


def total_variation(hu: FloatImage, weight_hu: float) -> FloatImage:
    """Total variation (Chambolle), (H, W) HU."""
    return np.asarray(denoise_tv_chambolle(hu.clip(-1024, 1500), weight=weight_hu, max_num_iter=60), np.float32)


def block_matching(hu: FloatImage, noise_hu: float) -> FloatImage:
    """BM3D (Dabov et al. 2007) by its authors' package, which is not free for commercial use; (H, W) HU."""
    bm3d = importlib.import_module("bm3d")
    return np.asarray(bm3d.bm3d(hu.clip(-1024, 1500).astype(np.float64), noise_hu), np.float32)


CLASSICAL: Final = (
    BestOf("NLM, best parameter", non_local_means, NLM_FACTORS),
    BestOf("TV, best parameter", total_variation, TV_FACTORS),
)
BM3D: Final = BestOf("BM3D, best parameter", block_matching, BM3D_FACTORS)


def classical_methods() -> tuple[BestOf, ...]:
    """What can be compared with here: BM3D where someone installed ``bm3d``, which nothing of ours asks for."""
    return (*CLASSICAL, BM3D) if importlib.util.find_spec("bm3d") else CLASSICAL
