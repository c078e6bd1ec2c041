"""Which rule decides on a series, and what it decides."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from factories import ct_dataset, ct_series
from pydicom.dataset import Dataset

from iscl_node.dicom.deriving.derived import derive
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.rules import check_rule, decide, findings
from iscl_node.domain import Derivation, Rule
from iscl_node.errors import ConfigurationError, IgnoreSeriesError, QuarantineSeriesError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def rule(name: str, ignore: str = "", **when: Any) -> Rule:
    return Rule(name, when, "abdomen", (1.0,), " ISCL", ("pacs",), ignore)


def test_good_rules_are_accepted() -> None:
    check_rule(rule("ct", Modality="CT", SeriesDescription={"matches": "THORAX"}))
    check_rule(rule("all"))


def test_every_fault_of_the_conditions_is_told_with_the_rule() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_rule(rule("typo", SeriesDescripton="x", KVP={"min": 2, "max": 1}))
    first, second = str(caught.value).splitlines()
    assert first == (
        "rule 'typo': when.SeriesDescripton is an unknown attribute keyword, did you mean SeriesDescription?"
    )
    assert second == "rule 'typo': when.KVP has min 2 above max 1"


@pytest.mark.parametrize("strengths", [(0.5, 0.5), (0.501, 0.502)])
def test_strengths_that_share_a_series_number_are_refused(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"rule 'ct': strengths .* same Series Number"):
        check_rule(replace(rule("ct"), strengths=strengths))


def test_the_first_rule_that_holds_decides_and_the_instances_are_in_order() -> None:
    series = ct_series(3)
    decision = decide([rule("mr", Modality="MR"), rule("ct", Modality="CT"), rule("all")], series[::-1], 3)
    assert decision.rule.name == "ct"
    assert decision.instances == tuple(series)


def test_rules_are_judged_up_to_the_one_that_holds() -> None:
    rules = [rule("mr", Modality="MR"), rule("ct", Modality="CT"), rule("all")]
    judged = [(each.rule.name, each.finding.holds) for each in findings(rules, ct_series(1), 1)]
    assert judged == [("mr", False), ("ct", True)]
    assert list(findings(rules, [], 0)) == []


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"KVP": "120"}, True),
        ({"KVP": "high"}, False),
        ({"ImageType": "AXIAL"}, True),
        ({"SeriesNumber": 3}, True),
        ({"PatientName": "Test^Case"}, True),
        ({"ReferringPhysicianName": {"present": False}}, True),
        ({"NumberOfSeriesRelatedInstances": {"min": 20}}, True),
        ({"NumberOfSeriesRelatedInstances": {"max": 19}}, False),
    ],
)
def test_conditions_see_the_data_set_and_the_count(when: dict[str, Any], holds: bool) -> None:
    (judged,) = findings([rule("any", **when)], [ct_dataset()], 20)
    assert judged.finding.holds is holds


def test_of_attributes_that_differ_the_lowest_instance_number_s_counts() -> None:
    series = ct_series(3)
    series[0].KVP = 80
    assert decide([rule("low", KVP=80), rule("all")], series[::-1], 3).rule.name == "low"


def test_a_value_that_is_not_what_its_vr_demands_is_none() -> None:
    source = ct_dataset()
    source.add_new("KVP", "DS", "120")
    source["KVP"]._value = "many"
    (judged,) = findings([rule("any", KVP={"present": True})], [source], 1)
    assert judged.finding.holds  # a text that is there; but no number
    (judged,) = findings([rule("any", KVP={"min": 0})], [source], 1)
    assert not judged.finding.holds


def test_a_rule_may_ignore_what_could_not_be_processed() -> None:
    unusual = ct_dataset(RescaleType="Z_EFF")
    rules = [rule("maps", ignore="maps stay as they are", RescaleType="Z_EFF"), rule("all")]
    with pytest.raises(IgnoreSeriesError, match="rule 'maps': maps stay as they are"):
        decide(rules, [unusual], 1)
    with pytest.raises(QuarantineSeriesError, match="Rescale Type"):
        decide(rules[1:], [unusual], 1)


def test_the_rule_does_not_depend_on_what_only_came_with_the_slices() -> None:
    localizer = ct_dataset(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], InstanceNumber=0, SOPInstanceUID="1.2.9")
    rules = [rule("scouts", ignore="localizers stay as they are", ImageType="LOCALIZER"), rule("all")]
    decision = decide(rules, [localizer, *ct_series(2)], 3)
    assert decision.rule.name == "all"
    assert decision.notes == ("left out 1 of 3 instances: it is a localizer",)


def test_without_a_rule_a_series_waits_for_a_person() -> None:
    with pytest.raises(QuarantineSeriesError, match="no rule matches"):
        decide([rule("mr", Modality="MR")], ct_series(2), 2)
    with pytest.raises(QuarantineSeriesError, match="no instances"):
        decide([rule("all")], [], 0)


def test_own_output_is_ignored_whatever_the_rules_say(derivation: Derivation) -> None:
    series = ct_series(2)
    made: list[Dataset] = [derive(each, to_hu(each), derivation, NOW, NOW) for each in series]
    with pytest.raises(IgnoreSeriesError, match="made by this node already"):
        decide([rule("all")], made, 2)
    decision = decide([rule("all")], [*series, made[0]], 3)
    assert decision.notes == ("left out 1 of 3 instances: it was made by this node already",)
