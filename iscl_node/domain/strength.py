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
    not in the picture. ``cautions`` name what the model was not made for.
    """

    value: float
    target_noise_hu: float | None = None
    source_noise_hu: float | None = None
    body_mm: float | None = None
    cautions: tuple[str, ...] = ()

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
        target_hu = target_of_body(self.target_noise_hu, self.body_mm)
        if self.body_mm is None or target_hu == self.target_noise_hu:
            return f"{self.target_noise_hu:g} HU"
        return f"{target_hu:.1f} HU for a body of {self.body_mm:.0f} mm"


def target_of_body(target_noise_hu: float, body_mm: float | None) -> float:
    """The target for a body of an effective diameter in mm, HU; that of a large body where it is not known."""
    smaller_mm = 0.0 if body_mm is None else max(TARGET_BODY_MM - body_mm, 0.0)
    return target_noise_hu * max(math.exp2(-smaller_mm / HALVED_MM), LEAST_SHARE)


def chosen_strength(
    choice: StrengthChoice,
    source_noise_hu: float | None,
    body_mm: float | None = None,
    cautions: tuple[str, ...] = (),
) -> ChosenStrength:
    """Choose the strength of a series by its noise, HU, and the size of the body; None what could not be measured.

    A share s of the noise removed leaves 1 - s of its standard deviation: s = 1 - target / measured, within
    ``LEAST_STRENGTH`` and ``MOST_STRENGTH``, of a sharp kernel ``MOST_OF_SHARP``.
    """
    if not isinstance(choice, AutoStrength):
        return ChosenStrength(choice, None, source_noise_hu, body_mm, cautions)
    if source_noise_hu is None:
        return ChosenStrength(STRENGTH_UNMEASURED, choice.target_noise_hu, None, body_mm, cautions)
    target_hu = target_of_body(choice.target_noise_hu, body_mm)
    wanted = 1 - target_hu / max(source_noise_hu, target_hu)
    most = MOST_OF_SHARP if SHARP_KERNEL in cautions else MOST_STRENGTH
    value = round(min(max(wanted, LEAST_STRENGTH), most), 3)
    return ChosenStrength(value, choice.target_noise_hu, source_noise_hu, body_mm, cautions)
