"""Rules compare attribute keywords with texts."""

from dataclasses import replace

import pytest
from factories import ct_dataset

from iscl_node.dicom.rules import check_rule, choose_rule, matches
from iscl_node.domain import Rule
from iscl_node.errors import ConfigurationError


def rule(name: str, **when: str) -> Rule:
    return Rule(name, when, "abdomen", (1.0,), " ISCL", ("pacs",))


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({}, True),
        ({"Modality": "CT"}, True),
        ({"Modality": "MR"}, False),
        ({"ImageType": "AXIAL"}, True),
        ({"ImageType": "MPR"}, False),
        ({"KVP": "120"}, True),
        ({"KVP": "high"}, False),
        ({"SeriesNumber": "3"}, True),
        ({"Modality": "CT", "PatientSex": "F"}, False),
        ({"ProtocolName": "CHEST"}, False),
        ({"ProtocolName": "None"}, False),
        ({"PatientName": "Test^Case"}, True),
    ],
)
def test_matches(when: dict[str, str], expected: bool) -> None:
    assert matches(when, ct_dataset()) is expected


@pytest.mark.parametrize("strengths", [(0.5, 0.5), (1.0, 0.51), (0.001, 0.002)])
def test_strengths_that_share_a_series_number_are_refused(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"rule 'ct': strengths .* same Series Number"):
        check_rule(replace(rule("ct"), strengths=strengths))


def test_first_matching_rule_is_chosen() -> None:
    rules = [rule("mr", Modality="MR"), rule("ct", Modality="CT"), rule("all")]
    chosen = choose_rule(rules, ct_dataset())
    assert chosen is not None
    assert chosen.name == "ct"
    assert choose_rule(rules[:1], ct_dataset()) is None


def test_known_keywords_are_accepted() -> None:
    check_rule(rule("ct", Modality="CT", SeriesDescription="THORAX"))


@pytest.mark.parametrize(
    ("keyword", "message"),
    [("SeriesDescripton", "SeriesDescription"), ("xyz!", "unknown"), ("SourceImageSequence", "compared")],
)
def test_useless_keywords_are_refused(keyword: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_rule(rule("typo", **{keyword: "x"}))
