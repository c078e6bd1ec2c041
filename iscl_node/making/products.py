"""The way of one instance, the same in the node and on the command line: denoised once, then, for each strength,
blended, judged and derived."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from iscl_node.denoise.denoiser import Denoiser, Slice, blend, removable_noise
from iscl_node.dicom.deriving.derived import derive
from iscl_node.dicom.deriving.transcoding import as_asked
from iscl_node.dicom.judging.exam_facts import ExamFacts, exam_facts
from iscl_node.dicom.judging.series import judge_input, sample, series_body_mm, series_noise, series_slice_mm
from iscl_node.dicom.judging.slices import ImplausibleResultError, check_numbers, judge
from iscl_node.dicom.judging.suitability import cautions
from iscl_node.dicom.reading.folder import Instance
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.uids import SERIES, derived_uid, instance_uid
from iscl_node.domain import Derivation, ModelIdentity, OutputSyntax, QualityLimits, Rule, Site
from iscl_node.domain.strength import ChosenStrength, StrengthChoice, chosen_strength
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError


def derivations(
    model: ModelIdentity, profile: str, strengths: Sequence[ChosenStrength], suffix: str, node_version: str, site: Site
) -> tuple[Derivation, ...]:
    """One derivation, so one derived series, for each strength.

    Of several strengths each is named behind the suffix, for example `` AI denoised 50%`` and `` AI denoised 10 HU``.
    """
    suffixes = [suffix] if len(strengths) == 1 else [f"{suffix} {_short(strength)}" for strength in strengths]
    return tuple(
        Derivation(
            model,
            profile,
            strength.value,
            each,
            node_version,
            site,
            strength.target_noise_hu,
            strength.source_noise_hu,
            strength.body_mm,
            cautions=strength.cautions,
            slice_mm=strength.slice_mm,
        )
        for strength, each in zip(strengths, suffixes, strict=True)
    )


def _short(strength: ChosenStrength) -> str:
    if strength.target_noise_hu is None:
        return f"{100 * strength.value:g}%"
    return f"{strength.target_noise_hu:g} HU"


def checked_strengths(
    choices: Sequence[StrengthChoice],
    sources: Sequence[Instance],
    limits: QualityLimits,
    tell: Callable[[ExamFacts], object] | None = None,
) -> tuple[ChosenStrength, ...]:
    """Choose the strengths for a series, whose noise is measured in a sample of its slices and judged on the way.

    What was measured is passed on before it is judged.

    Raises
    ------
    QuarantineSeriesError
        If the series has other noise than the model was made for, or the pixels cannot be read; not if no noise will be
        removed.
    """
    if not any(choices):
        return tuple(chosen_strength(choice, None) for choice in choices)
    sampled = sample([view for instance in sources for view in frames(instance)])
    images = list(map(to_hu, sampled))
    noise = series_noise(images)
    if tell is not None:
        tell(exam_facts(list(zip(images, sampled, strict=True)), noise.level_hu))
    judge_input(noise, limits)
    body_mm = series_body_mm(zip(images, sampled, strict=True))
    found = cautions(sampled, noise, body_mm)
    known = noise.level_hu, body_mm, found, series_slice_mm(sampled)
    return tuple(chosen_strength(choice, *known) for choice in choices)


def check_suited(strengths: Sequence[ChosenStrength], rule: Rule) -> None:
    """Turn down a series that the model was not made for, where its rule says so.

    Raises
    ------
    IgnoreSeriesError, QuarantineSeriesError
        With what it is that the model was not made for.
    """
    found = ", ".join(strengths[0].cautions if strengths else ())
    if not found or rule.unsuited == "warn":
        return
    reason = f"rule {rule.name!r}: the model was not made for it: {found} (unsuited = {rule.unsuited!r})"
    raise (IgnoreSeriesError if rule.unsuited == "ignore" else QuarantineSeriesError)(reason)


@dataclass(frozen=True)
class Products:
    """What is made of a series: a derived series for each derivation.

    Parameters
    ----------
    denoiser : Denoiser
        Of the derivations' model and profile.
    derivations : tuple of Derivation
        They differ in their strength and suffix.
    limits : QualityLimits
        Of the judge.
    transfer_syntax : str
        How the derived instances are encoded, see ``transcoding.as_asked``.
    """

    denoiser: Denoiser
    derivations: tuple[Derivation, ...]
    limits: QualityLimits
    transfer_syntax: OutputSyntax = "explicit"

    def series_uids(self, source_series_uid: str) -> list[str]:
        """The Series Instance UID of each derived series, in the order of the derivations."""
        return [str(derived_uid(source_series_uid, each, SERIES)) for each in self.derivations]

    def instance_uids(self, source: Instance) -> list[str]:
        """The SOP Instance UID of what each derivation makes of an instance."""
        uids = str(source.SeriesInstanceUID), str(source.SOPInstanceUID)
        return [str(instance_uid(*uids, each)) for each in self.derivations]

    def made_of(self, source: Instance, started: datetime) -> Iterator[Instance]:
        """Make the derived instances of one source instance, in the order of the derivations.

        Parameters
        ----------
        source : Instance
            With its pixels; it is not changed.
        started : datetime
            When work on the derived series started, the same for all their instances.

        Raises
        ------
        QuarantineSeriesError
            If the pixels cannot be read or a result is not plausible.
        """
        noisy = ((hu, removable_noise(self.denoiser, hu)) for hu in map(to_hu, frames(source)))
        # Frames are held, with 8 bytes for each pixel, only when they are needed more than once.
        pairs = noisy if len(self.derivations) == 1 else tuple(noisy)
        for derivation in self.derivations:
            derived_hu = (self._blended(source_hu, noise_hu, derivation) for source_hu, noise_hu in pairs)
            native = derive(source, derived_hu, derivation, started, datetime.now().astimezone())
            derived = as_asked(native, source, self.transfer_syntax)
            self._judge(source, derived, derivation)
            yield derived

    def _blended(self, source_hu: Slice, noise_hu: Slice, derivation: Derivation) -> Slice:
        derived_hu = blend(source_hu, noise_hu, derivation.strength)
        check_numbers(source_hu, derived_hu)
        return derived_hu

    def _judge(self, source: Instance, derived: Instance, derivation: Derivation) -> None:
        """Judge the pixels as they are written, so that rounding, rescale and compression are judged, too."""
        for number, (before, after) in enumerate(zip(frames(source), frames(derived), strict=True)):
            try:
                judge(to_hu(before), to_hu(after), self.limits, derivation.strength)
            except ImplausibleResultError as error:
                error.frame = number
                raise
