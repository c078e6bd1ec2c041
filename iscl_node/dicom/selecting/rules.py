"""What the settings say about a series: the first rule whose conditions hold decides."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.selecting.condition_tables import FaultyTableError, read_conditions
from iscl_node.dicom.selecting.conditions import Finding, Values
from iscl_node.dicom.selecting.series import parted, select_series
from iscl_node.dicom.uids import OWN_NUMBERS, strength_number
from iscl_node.domain import Rule
from iscl_node.domain.strength import AutoStrength, StrengthChoice
from iscl_node.errors import (
    ConfigurationError,
    IgnoreSeriesError,
    OutsideBytesError,
    QuarantineSeriesError,
    outside_bytes,
)

COUNT: Final = "NumberOfSeriesRelatedInstances"
"""The attribute of queries (PS3.4 C.6.1.1.3) that stands in a rule for the instances the node has of the series."""


@dataclass(frozen=True)
class RuleFinding:
    """What became of a rule's conditions for a series."""

    rule: Rule
    finding: Finding


@dataclass(frozen=True)
class Decision:
    """A series that is to be processed: by which rule, and its instances in the order of their positions.

    ``notes`` say what was left out.
    """

    rule: Rule
    instances: tuple[Dataset, ...]
    notes: tuple[str, ...] = ()


def check_rules(rules: Sequence[Rule]) -> None:
    """Refuse settings without rules, and as :func:`check_rule` each of them.

    Raises
    ------
    ConfigurationError
    """
    if not rules:
        raise ConfigurationError("the settings have no [[rules]], so nothing would ever be denoised")
    for rule in rules:
        check_rule(rule)


def check_rule(rule: Rule) -> None:
    """Refuse a rule that cannot be meant like this.

    Raises
    ------
    ConfigurationError
        With every fault of its conditions, each with its key, or as :func:`check_strengths`.
    """
    try:
        read_conditions(rule.when)
        check_strengths(rule.strengths)
    except FaultyTableError as error:
        faults = [f"rule {rule.name!r}: {fault}" for fault in error.faults]
        raise ConfigurationError("\n".join(faults)) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"rule {rule.name!r}: {error}") from error


def check_strengths(strengths: Sequence[StrengthChoice]) -> None:
    """Refuse strengths whose derived series would have the same Series Number.

    Raises
    ------
    ConfigurationError
        Naming the first two; strengths in steps of 0.01 never collide, nor do targets in steps of 1 HU, up to 23.
    """
    for one, other in combinations(strengths, 2):
        if strength_number(one, OWN_NUMBERS) == strength_number(other, OWN_NUMBERS):
            raise ConfigurationError(
                f"strengths {_named(one)} and {_named(other)} would give the same Series Number; "
                "take steps of 0.01, or of 1 HU"
            )


def _named(choice: StrengthChoice) -> str:
    return f"auto ({choice.target_noise_hu:g} HU)" if isinstance(choice, AutoStrength) else f"{choice:g}"


def decide(
    rules: Iterable[Rule], instances: Sequence[Dataset], instance_count: int, earlier: Sequence[Dataset] = ()
) -> Decision:
    """Decide what happens to a series.

    Parameters
    ----------
    rules : iterable of Rule
        In the order of the settings.
    instances : sequence of Dataset
        The instances of one series that are to be processed together, in any order.
    instance_count : int
        How many instances of the series there are, with those that came earlier.
    earlier : sequence of Dataset
        Instances of the series that were processed before.

    Raises
    ------
    IgnoreSeriesError
        If none of the instances is a slice, or the rule says so.
    QuarantineSeriesError
        If no rule's conditions hold, or the instances cannot be processed.
    """
    if instances and all(map(is_own_output, instances)):
        raise IgnoreSeriesError("made by this node already")
    rule = next((each.rule for each in findings(rules, instances, instance_count) if each.finding.holds), None)
    if rule is not None and rule.ignore:
        raise IgnoreSeriesError(f"rule {rule.name!r}: {rule.ignore}")
    selection = select_series(instances, earlier)
    if rule is None:
        raise QuarantineSeriesError("no rule matches this series; add one under [[rules]] and requeue")
    return Decision(rule, selection.instances, selection.notes)


def findings(rules: Iterable[Rule], instances: Sequence[Dataset], instance_count: int) -> Iterator[RuleFinding]:
    """Judge the rules in their order, up to the first whose conditions hold.

    Where an attribute differs from instance to instance, the one with the lowest Instance Number counts, and of several
    frames the first. What only came with the slices, such as a localizer, does not count.
    """
    if not instances:
        return
    chosen = representative(parted(instances).instances or instances)
    values = _values((frames(chosen)[0], chosen), instance_count)
    for rule in rules:
        judged = RuleFinding(rule, read_conditions(rule.when).finding(values))
        yield judged
        if judged.finding.holds:
            return


def representative(instances: Sequence[Dataset]) -> Dataset:
    """The instance with the lowest Instance Number, and of several the one with the lowest UID."""
    return min(instances, key=lambda each: ((numbers(each, "InstanceNumber", 1) or [0.0])[0], str(each.SOPInstanceUID)))


def _values(datasets: Iterable[Dataset], instance_count: int) -> Values:
    """The values of the first data set that has some."""

    def values(keyword: str) -> tuple[Any, ...]:
        if keyword == COUNT:
            return (instance_count,)
        return next(filter(None, (_values_in(each, keyword) for each in datasets)), ())

    return values


def _values_in(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    try:
        with outside_bytes():
            value = dataset.get(keyword)
    except OutsideBytesError:  # not what its VR demands is as good as none
        return ()
    found = value if isinstance(value, MultiValue) else (value,)
    return tuple(each for each in found if each is not None and str(each).strip())
