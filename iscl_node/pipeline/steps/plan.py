"""What is decided of a batch before anything is made of it; `iscl_node.store.records.plan` keeps it in the spool."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict, cast
from zoneinfo import ZoneInfo

from iscl_node.dicom.reading.folder import Instance
from iscl_node.domain import OutputSyntax, Rule
from iscl_node.domain.hours import PRIORITIES, Priority
from iscl_node.domain.strength import AutoStrength, ChosenStrength

_BYTES_A_PIXEL: Final = 2
_HEADER_BYTES: Final = 16 << 10
"""Of an object, generously; a disk gives it whole blocks."""


class PlaceInTime(TypedDict, total=False):
    """When a batch is made, among others; of plans of earlier releases there is nothing."""

    priority: Priority
    not_before: str


class BegunRule(PlaceInTime):
    """The rule of a batch as it was when the batch was planned: what all derived instances must have in common.

    ``strengths`` are those of the rule, in its order, as they were chosen, and ``source_noise_hu``, ``body_mm`` and
    ``slice_mm`` decided on them. ``started`` is when work on the derived series started (ISO 8601, with the offset from
    UTC), and ``send_to`` where they go. ``uid_scheme`` is how their UIDs are computed; see `earlier_batches`.
    ``cautions`` name what the model was not made for. ``priority`` is the rule's, and ``not_before`` (ISO 8601) when
    its hours begin; it is there only if they had not started.
    """

    name: str
    suffix: str
    transfer_syntax: OutputSyntax
    strengths: list[float]
    source_noise_hu: float | None
    body_mm: float | None
    started: str
    send_to: list[str]
    uid_scheme: NotRequired[str]
    cautions: NotRequired[list[str]]
    slice_mm: NotRequired[float | None]


class Plan(TypedDict):
    """What is decided of a batch: the rule, the derived series' UIDs, and the files in the order of their positions.

    ``instances`` are all that were in the batch then; one that repeats another may be none of the files.
    ``expected_bytes`` is what the derived objects will take on disk, about; ``notes`` say what was left out.
    """

    rule: BegunRule
    series_uids: list[str]
    files: list[str]
    instances: list[str]
    expected_bytes: int
    notes: NotRequired[list[str]]


def place_in_time(rule: Rule, time_zone: str) -> PlaceInTime:
    """What the plan has of a rule's priority and hours; ``time_zone`` is of the IANA, empty for the machine's."""
    if rule.hours is None:
        return {"priority": rule.priority}
    now = datetime.now(ZoneInfo(time_zone)) if time_zone else datetime.now()
    begin = rule.hours.begin(now)
    place = PlaceInTime(priority=rule.priority)
    if begin != now:
        place["not_before"] = begin.astimezone().isoformat()
    return place


def order_of(begun: Mapping[str, Any]) -> int:
    """The number of a batch's priority, the lower first."""
    return PRIORITIES.get(begun.get("priority", "normal"), PRIORITIES["normal"])


def expected_bytes(instances: Iterable[Instance], rule: Rule) -> int:
    """About how much is made of a series, uncompressed: derived objects, and noise maps of 2 bytes a pixel."""
    pixels = [
        int(each.get("Rows") or 0) * int(each.get("Columns") or 0) * max(1, int(each.get("NumberOfFrames") or 1))
        for each in instances
    ]
    return derived_per_received(rule) * sum(_BYTES_A_PIXEL * each + _HEADER_BYTES for each in pixels)


def derived_per_received(rule: Rule) -> int:
    """How many bytes are made for each that is received, at most, if what is received is not compressed."""
    return 0 if rule.ignore else len(rule.strengths) * (2 if rule.evidence.noise_map else 1)


def chosen_strengths(rule: Rule, begun: BegunRule) -> list[ChosenStrength]:
    """The rule's strengths; those that the noise decides are as they were chosen when the batch was planned."""
    recorded = [*begun["strengths"], *(0.0 for _ in rule.strengths)]  # of a rule that has more by now no series is made
    measured = begun["source_noise_hu"], begun["body_mm"], tuple(begun.get("cautions", ())), begun.get("slice_mm")
    return [
        ChosenStrength(value, choice.target_noise_hu, *measured)
        if isinstance(choice, AutoStrength)
        else ChosenStrength(choice, None, *measured)
        for choice, value in zip(rule.strengths, recorded, strict=False)
    ]


def joined(begun: BegunRule, series_uids: Sequence[str], earlier: Iterable[Mapping[str, Any]]) -> BegunRule:
    """Give a batch the strengths of the latest earlier one of the same derived series: no series has two.

    Parameters
    ----------
    begun : BegunRule
        With the strengths of the batch's own noise.
    series_uids : sequence of str
        What would be made of the batch.
    earlier : iterable of mapping
        The plans of earlier batches, the latest first; one that is damaged does not count.
    """
    for plan in earlier:
        with suppress(KeyError, TypeError, ValueError):
            rule = plan["rule"]
            strengths = [float(each) for each in rule["strengths"]]
            if plan["series_uids"] == list(series_uids) and len(strengths) == len(begun["strengths"]):
                measured = {"source_noise_hu": rule["source_noise_hu"], "body_mm": rule["body_mm"]}
                measured |= {"cautions": list(rule.get("cautions", ())), "slice_mm": rule.get("slice_mm")}
                return cast(BegunRule, {**begun, "strengths": strengths, **measured})
    return begun
