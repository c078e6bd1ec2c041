"""How much of the noise is removed: a share, or what the noise of a series itself decides."""

from dataclasses import dataclass
from typing import Final

PRESETS: Final = {"mild": 14.0, "standard": 10.0, "strong": 7.0}
"""Names for a target noise, HU: what a rule may say in place of a number."""
TARGET_NOISE_HU: Final = PRESETS["standard"]
LEAST_STRENGTH: Final = 0.15
"""A series that is at its target already is derived all the same, nearly untouched: who reads it finds the derived
series of every examination in its place, and a strength of 0 would be a copy that calls itself denoised."""
MOST_STRENGTH: Final = 0.9
"""A tenth of the noise always stays: an image without any looks painted, and what the network did not tell from noise
is gone with the last of it."""
STRENGTH_UNMEASURED: Final = 0.5
"""Where no slice holds enough soft tissue to measure noise in (lung alone, a small cut-out)."""


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
    measured in the source, None where nothing could be.
    """

    value: float
    target_noise_hu: float | None = None
    source_noise_hu: float | None = None

    @property
    def text(self) -> str:
        """The strength in words, and how it was chosen."""
        text = f"strength {self.value:g}"
        if self.target_noise_hu is None:
            return text
        noise_hu = self.source_noise_hu
        measured = "noise not measurable" if noise_hu is None else f"{noise_hu:.1f} HU of noise"
        return f"{text} (auto: {measured}, target {self.target_noise_hu:g} HU)"


def chosen_strength(choice: StrengthChoice, source_noise_hu: float | None) -> ChosenStrength:
    """Choose the strength of a series by its noise, HU; None where it could not be measured.

    A share s of the noise removed leaves 1 - s of its standard deviation: s = 1 - target / measured, within
    ``LEAST_STRENGTH`` and ``MOST_STRENGTH``.
    """
    if not isinstance(choice, AutoStrength):
        return ChosenStrength(choice, None, source_noise_hu)
    if source_noise_hu is None:
        return ChosenStrength(STRENGTH_UNMEASURED, choice.target_noise_hu)
    wanted = 1 - choice.target_noise_hu / max(source_noise_hu, choice.target_noise_hu)
    value = round(min(max(wanted, LEAST_STRENGTH), MOST_STRENGTH), 3)
    return ChosenStrength(value, choice.target_noise_hu, source_noise_hu)
