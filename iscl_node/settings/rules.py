"""The sections [[rules]] of the settings."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from iscl_node import domain
from iscl_node.domain.hours import Hours, Priority
from iscl_node.domain.strength import PRESETS, TARGET_NOISE_HU, AutoStrength, StrengthChoice
from iscl_node.errors import ConfigurationError
from iscl_node.settings.derived import checked_suffix
from iscl_node.settings.section import A_YEAR_SECONDS, Section

_DEFAULT = domain.CompletenessPolicy()

Strengths = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)] | Literal["auto", "mild", "standard", "strong"], ...],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,)),
]
TargetNoise = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def strength_choices(strengths: Sequence[str], target_noise_hu: float) -> tuple[StrengthChoice, ...]:
    """Read strengths from words.

    Raises
    ------
    ConfigurationError
        If one is neither 'auto', a preset nor a number from 0 to 1, or the target is not above 0.
    """
    try:
        TypeAdapter(TargetNoise).validate_python(target_noise_hu)
        return tuple(_choice(each, target_noise_hu) for each in TypeAdapter(Strengths).validate_python(strengths))
    except ValidationError as error:
        allowed = f"auto, {', '.join(PRESETS)} or a number from 0 to 1, the target noise above 0 HU"
        raise ConfigurationError(f"strength {', '.join(strengths)}, {target_noise_hu:g} HU: {allowed}") from error


def _checked_hours(text: str) -> str:
    if text:
        Hours.read(text)
    return text


def _choice(strength: float | str, target_noise_hu: float) -> StrengthChoice:
    if isinstance(strength, str):
        return AutoStrength(target_noise_hu if strength == "auto" else PRESETS[strength])
    return strength


class CompletenessSettings(Section):
    """When a quiet series is complete; docs/completeness.md."""

    ask: str = ""
    """A peer that may 'query': it is asked by C-FIND which instances it has of the series. Empty: no peer is asked."""
    fetch: bool = False
    """Fetch what only that peer has, by C-MOVE; it must know the node, and may 'store'."""
    timeout_seconds: float = Field(default=_DEFAULT.timeout_seconds, ge=0, le=A_YEAR_SECONDS)
    """A series of which something is missing waits this long after its last arrival."""
    at_timeout: domain.AtTimeout = _DEFAULT.at_timeout
    """What happens then: process it as it is; wait until it is complete or a person closes it; or quarantine."""

    @model_validator(mode="after")
    def _check_fetch(self) -> "CompletenessSettings":
        if self.fetch and not self.ask:
            raise ValueError("fetch needs ask: the peer that is asked what there is, and that is fetched from")
        return self

    def policy(self) -> domain.CompletenessPolicy:
        """The same as the other rooms know it."""
        return domain.CompletenessPolicy(**self.model_dump())


class RuleSettings(Section):
    """Which series are denoised, how, and where the result goes; the first rule that matches wins."""

    name: str = Field(min_length=1)
    """Used in log, page and reasons."""
    when: dict[str, Any] = Field(default={})
    """Conditions on attributes, as in docs/rules.md; without any, the rule holds for every series."""
    ignore: str = ""
    """A reason: the series is left alone. Such a rule has no other keys but name and when."""
    profile: str = "full"
    """What the model sees, and its weights: full, the whole HU range, or abdomen or chest, the paper's HU windows."""
    strength: Strengths = ("auto",)
    """auto: chosen for each series from its noise, so that target_noise_hu is left; mild, standard and strong: the same
    for 14, 10 and 7 HU; or the share of the noise that is removed, 0 to 1. Several give a derived series each."""
    target_noise_hu: TargetNoise = TARGET_NOISE_HU
    """The noise that a derived series of a trunk in slices of 5 mm is to have where strength is auto, HU; a smaller
    body less, thinner slices more."""
    suffix: Annotated[str, AfterValidator(checked_suffix)] = " AI denoised"
    """The end of the Series Description of a derived series."""
    send_to: tuple[str, ...] = ()
    """Names of the peers that get the derived series."""
    transfer_syntax: domain.OutputSyntax = "explicit"
    """explicit: Explicit VR Little Endian; source: compressed as the source, where that is lossless."""
    noise_map: bool | Literal["ct"] = False
    """Also send what was removed, as Parametric Maps or, "ct", as plain CT (docs/evidence.md)."""
    report: bool = False
    """Also send noise before and after, and what was done, as a structured report (docs/evidence.md)."""
    unsuited: domain.Unsuited = "warn"
    """A series with a sharp kernel, iterative reconstruction, of a child, or else what the model was not made for: warn
    of it in all that is derived, ignore it, or quarantine it."""
    priority: Priority = "normal"
    """Which series are made first: urgent, normal, off-peak; then the one that was closed first."""
    hours: Annotated[str, AfterValidator(_checked_hours)] = ""
    """20:00-06:00: a series is made in these hours of the day only, in [derived] time_zone; empty: at any time."""
    ct_category: str = Field(default="", max_length=64)
    """The CT category of the US dose measure (CMS1056, 1074, 1206) of what the rule takes, in the measure's words: a
    column of the page's CSV file, "unknown" where it is empty."""
    completeness: CompletenessSettings = CompletenessSettings()

    def known_hours(self) -> Hours | None:
        """The hours as the other rooms know them."""
        return Hours.read(self.hours) if self.hours else None

    def strengths(self) -> tuple[StrengthChoice, ...]:
        """The strengths as the other rooms know them."""
        return tuple(_choice(each, self.target_noise_hu) for each in self.strength)

    @model_validator(mode="after")
    def _check_end(self) -> "RuleSettings":
        if self.ignore and self.model_fields_set - {"name", "when", "ignore"}:
            raise ValueError(f"rule {self.name!r} ignores, so it may only have name, when and ignore")
        if not self.ignore and not self.send_to:
            raise ValueError(f"rule {self.name!r} needs send_to with at least one peer, or ignore with a reason")
        if len(set(self.send_to)) < len(self.send_to):
            raise ValueError(f"rule {self.name!r} names a peer twice in send_to, which would get all of it twice")
        return self
