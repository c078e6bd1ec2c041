"""What the node would do with files, and why; nothing is derived, stored or sent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from iscl_node.dicom.deriving.derived import DerivedSeries, derived_series
from iscl_node.dicom.deriving.inherited import inherited
from iscl_node.dicom.judging.content import check_content
from iscl_node.dicom.reading.folder import Instance, SkippedFile, read_folder
from iscl_node.dicom.selecting.completeness import coverage, slice_of
from iscl_node.dicom.selecting.conditions import Finding
from iscl_node.dicom.selecting.rules import Decision, RuleFinding, decide, findings
from iscl_node.domain import CT_STORAGE, NO_EVIDENCE, EvidenceChoice, ModelIdentity, QualityLimits, Rule, Site
from iscl_node.errors import ConfigurationError, IgnoreSeriesError, QuarantineSeriesError
from iscl_node.making.products import check_suited, checked_strengths, derivations


@dataclass(frozen=True)
class MadeSeries:
    """A derived series that would be made."""

    series: DerivedSeries
    profile: str
    strength: float
    how: str
    """The strength in words, with what it was chosen by."""


@dataclass(frozen=True)
class SeriesExplanation:
    """What would become of a series.

    ``outcome`` is what would happen: ``derived``, ``ignored`` or ``quarantine``;
    ``rules`` were judged in their order, up to the one that decided; ``evidence`` would lie beside each series made.
    ``missing`` are the gaps in the series, for which the node would wait; ``notes`` say what would be left out.
    """

    series_instance_uid: str
    instances: int
    outcome: str
    reason: str
    rules: tuple[RuleFinding, ...] = ()
    send_to: tuple[str, ...] = ()
    made: tuple[MadeSeries, ...] = ()
    evidence: EvidenceChoice = NO_EVIDENCE
    missing: str = ""
    notes: tuple[str, ...] = ()


def explain(
    path: Path,
    rules: Sequence[Rule],
    model: ModelIdentity,
    node_version: str,
    limits: QualityLimits,
    windows_hu: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> tuple[list[SeriesExplanation], tuple[SkippedFile, ...]]:
    """Find what the node would do with each series in a file or a folder.

    ``windows_hu`` has what the model changes by profile; of one that is not there it is not known.

    Returns
    -------
    tuple of list of SeriesExplanation and tuple of SkippedFile
        The series, and the files that would be refused while they are received.

    Raises
    ------
    ConfigurationError
        If there is no file.
    """
    content = read_folder(path)
    if not (content.series or content.skipped or content.illegible):
        raise ConfigurationError(f"{path} holds no files")
    explained = [
        _explained(uid, each, rules, model, node_version, limits, windows_hu) for uid, each in content.series.items()
    ]
    illegible = [
        SeriesExplanation(each.series_instance_uid, each.instances, "quarantine", each.reason)
        for each in content.illegible
    ]
    return [*explained, *illegible], content.skipped


def _explained(
    uid: str,
    instances: Sequence[Instance],
    rules: Sequence[Rule],
    model: ModelIdentity,
    node_version: str,
    limits: QualityLimits,
    windows_hu: Mapping[str, tuple[float, float]],
) -> SeriesExplanation:
    count = len(instances)
    strangers = {str(each.SOPClassUID.name) for each in instances if each.SOPClassUID not in CT_STORAGE}
    if all(each.SOPClassUID not in CT_STORAGE for each in instances):
        reason = f"the node does not receive {', '.join(sorted(strangers))}"
        return SeriesExplanation(uid, count, "ignored", reason)
    judged: tuple[RuleFinding, ...] = ()
    try:
        judged = tuple(findings(rules, instances, count))
        decision = decide(rules, instances, count)
        if any(decision.rule.strengths):
            check_content(decision.instances, decision.rule.profile, windows_hu.get(decision.rule.profile))
        for each in decision.instances:
            inherited(each)  # of which it is made
        strengths = checked_strengths(decision.rule.strengths, decision.instances, limits)
        check_suited(strengths, decision.rule)
    except IgnoreSeriesError as error:
        return SeriesExplanation(uid, count, "ignored", str(error), judged)
    except QuarantineSeriesError as error:
        return SeriesExplanation(uid, count, "quarantine", str(error), judged)
    made = tuple(
        MadeSeries(derived_series(decision.instances[0], each), each.profile, each.strength, each.chosen_strength.text)
        for each in derivations(model, decision.rule.profile, strengths, decision.rule.suffix, node_version, Site())
    )
    return _derived(uid, decision, judged, made)


def _derived(
    uid: str, decision: Decision, judged: tuple[RuleFinding, ...], made: tuple[MadeSeries, ...]
) -> SeriesExplanation:
    rule, missing = decision.rule, coverage([slice_of(each) for each in decision.instances]).where
    return SeriesExplanation(
        uid,
        len(decision.instances),
        "derived",
        f"rule {rule.name!r} holds",
        judged,
        rule.send_to,
        made,
        rule.evidence,
        missing,
        decision.notes,
    )


def told(explanation: SeriesExplanation) -> Iterator[str]:
    """Return an explanation as lines of text."""
    count, evidence = explanation.instances, explanation.evidence
    yield f"series {explanation.series_instance_uid}, {count} instance{'s' if count > 1 else ''}"
    yield f"  {explanation.outcome}: {explanation.reason}"
    for note in explanation.notes:
        yield f"  {note}"
    if explanation.missing:
        yield f"  incomplete: {explanation.missing}"
    for judged in explanation.rules:
        yield f"  rule {judged.rule.name!r} {'holds' if judged.finding.holds else 'does not hold'}"
        yield from _told(judged.finding, "    ")
    for made in explanation.made:
        series = made.series
        yield f'  makes series {series.number} "{series.description}" for {", ".join(explanation.send_to)}'
        yield f"    profile {made.profile}, {made.how}, {series.series_instance_uid}"
        beside = [field.name.replace("_", " ") for field in fields(evidence) if getattr(evidence, field.name)]
        if beside:
            yield f"    beside it: {', '.join(beside)}"


def _told(finding: Finding, indent: str) -> Iterator[str]:
    found = "" if finding.parts or finding.text == "every series" else f" (found {finding.found or 'nothing'})"
    yield f"{indent}{'yes' if finding.holds else 'no '} {finding.text}{found}"
    for part in finding.parts:
        yield from _told(part, f"{indent}  ")
