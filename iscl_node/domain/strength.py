"""How much of the noise is removed: a share, or what the noise of a series itself decides."""

import math
from dataclasses import dataclass
from typing import Final

PRESETS: Final = {"mild": 14.0, "standard": 10.0, "strong": 7.0}
"""Names for a target noise, HU: what a rule may say in place of a number."""
TARGET_NOISE_HU: Final = PRESETS["standard"]
TARGET_BODY_MM: Final = 300.0
"""A target is meant for a body of this effective diameter, or a larger one. Protocols allow a smaller body less noise,
because what is looked for in a head or a child has less contrast."""
HALVED_MM: Final = 80.0
"""So many mm less halve the target, down to ``LEAST_SHARE`` of it."""
LEAST_SHARE: Final = 0.4
TARGET_SLICE_MM: Final = 5.0
"""A target is meant for slices of this thickness, or thicker ones. At equal dose the noise goes with the root of the
thickness, and protocols allow thin slices as much more: what is read in them is fine, or several are seen together."""
THINNEST_MM: Final = 1.0
"""Thinner slices have the target of these."""
LEAST_STRENGTH: Final = 0.15
"""A series that is at its target already is derived all the same, nearly untouched: who reads it finds the derived
series of every examination in its place, and a strength of 0 would be a copy that calls itself denoised."""
MOST_STRENGTH: Final = 0.9
"""A tenth of the noise always stays: an image without any looks painted, and what the network took for noise
is gone with the last of it."""
STRENGTH_UNMEASURED: Final = 0.5
"""Where no slice holds enough soft tissue to measure noise in (lung alone, a small cut-out)."""
SHARP_KERNEL: Final = "sharp kernel"
"""A caution: what is fine is what such a kernel was chosen for, and its noise is mostly fine."""
MOST_OF_SHARP: Final = 0.5
"""A target is meant for a soft kernel, whose noise is a third of a sharp one's: of that no more is taken."""


@dataclass(frozen=True)
class AutoStrength:
    """The strength is chosen once for a series from its noise, so that the derived series has about the target's."""

    target_noise_hu: float = TARGET_NOISE_HU


StrengthChoice = float | AutoStrength
"""What a rule says: the share of the noise that is removed, 0 to 1, or to choose it."""


@dataclass(frozen=True)
class ChosenStrength:
    """The strength of one derived series.

    ``target_noise_hu`` is what it was chosen for, None for a share that the rule names. ``source_noise_hu`` is what was
    measured in the source, None where nothing could be. ``body_mm`` is the body's effective diameter, None where it is
    not in the picture, ``slice_mm`` the thickness of the slices. ``cautions`` name what the model was not made for.
    """

    value: float
    target_noise_hu: float | None = None
    source_noise_hu: float | None = None
    body_mm: float | None = None
    cautions: tuple[str, ...] = ()
    slice_mm: float | None = None

    @property
    def text(self) -> str:
        """The strength in words, how it was chosen, and what the model was not made for."""
        text = f"strength {self.value:g}{self._chosen_by}"
        return f"{text}; not what the model was made for: {', '.join(self.cautions)}" if self.cautions else text

    @property
    def _chosen_by(self) -> str:
        if self.target_noise_hu is None:
            return ""
        noise_hu = self.source_noise_hu
        measured = "noise not measurable" if noise_hu is None else f"{noise_hu:.1f} HU of noise"
        return f" (auto: {measured}, target {self._target})"

    @property
    def _target(self) -> str:
        assert self.target_noise_hu is not None
        target_hu = target_of(self.target_noise_hu, self.body_mm, self.slice_mm)
        body = "" if _of_body(self.body_mm) == 1 else f"a body of {self.body_mm:.0f} mm"
        slices = "" if _of_slices(self.slice_mm) == 1 else f"slices of {self.slice_mm:g} mm"
        reasons = " in ".join(filter(None, (slices, body)))
        return f"{target_hu:.1f} HU for {reasons}" if reasons else f"{target_hu:g} HU"


def target_of(target_noise_hu: float, body_mm: float | None, slice_mm: float | None = None) -> float:
    """The target for a body of an effective diameter and slices of a thickness, mm, in HU.

    What is not known counts as a large body, and as thick slices.
    """
    return target_noise_hu * _of_body(body_mm) * _of_slices(slice_mm)


def _of_body(body_mm: float | None) -> float:
    smaller_mm = 0.0 if body_mm is None else max(TARGET_BODY_MM - body_mm, 0.0)
    return max(math.exp2(-smaller_mm / HALVED_MM), LEAST_SHARE)


def _of_slices(slice_mm: float | None) -> float:
    thickness_mm = TARGET_SLICE_MM if slice_mm is None else min(max(slice_mm, THINNEST_MM), TARGET_SLICE_MM)
    return math.sqrt(TARGET_SLICE_MM / thickness_mm)


def chosen_strength(
    choice: StrengthChoice,
    source_noise_hu: float | None,
    body_mm: float | None = None,
    cautions: tuple[str, ...] = (),
    slice_mm: float | None = None,
) -> ChosenStrength:
    """Choose the strength of a series by its noise, HU, the size of the body and the thickness of its slices, mm.

    None is what is not known.

    A share s of the noise removed leaves 1 - s of its standard deviation: s = 1 - target / measured, within
    ``LEAST_STRENGTH`` and ``MOST_STRENGTH``, of a sharp kernel ``MOST_OF_SHARP``.
    """
    if not isinstance(choice, AutoStrength):
        return ChosenStrength(choice, None, source_noise_hu, body_mm, cautions, slice_mm)
    if source_noise_hu is None:
        return ChosenStrength(STRENGTH_UNMEASURED, choice.target_noise_hu, None, body_mm, cautions, slice_mm)
    target_hu = target_of(choice.target_noise_hu, body_mm, slice_mm)
    wanted = 1 - target_hu / max(source_noise_hu, target_hu)
    most = MOST_OF_SHARP if SHARP_KERNEL in cautions else MOST_STRENGTH
    value = round(min(max(wanted, LEAST_STRENGTH), most), 3)
    return ChosenStrength(value, choice.target_noise_hu, source_noise_hu, body_mm, cautions, slice_mm)
