"""docs/rules.md: every example can be used as it is, and decides as the page says."""

import re
from pathlib import Path

import pytest
from factories import ct_series
from surroundings import REPOSITORY

from iscl_node.dicom.selecting.rules import check_rule, decide
from iscl_node.domain import Rule
from iscl_node.errors import IgnoreSeriesError
from iscl_node.settings import load_settings

PAGE = (REPOSITORY / "docs" / "rules.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
PEER = '\n[[peers]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\nmay = ["receive"]\n'


@pytest.fixture
def rules(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Rule, ...]:
    file = tmp_path / "iscl-node.toml"
    file.write_text(EXAMPLES[request.param] + PEER)
    return load_settings(file).known_rules()


@pytest.mark.parametrize("rules", range(len(EXAMPLES)), indirect=True)
def test_an_example_can_be_used(rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        check_rule(rule)


@pytest.mark.parametrize("rules", [0], indirect=True)
def test_a_chest_makes_two_series(rules: tuple[Rule, ...]) -> None:
    assert decide(rules, ct_series(1, BodyPartExamined="CHEST"), 1).rule.strengths == (0.5, 1.0)
    assert decide(rules, ct_series(1, BodyPartExamined="ABDOMEN"), 1).rule.name == "all other CT"


@pytest.mark.parametrize("rules", [1], indirect=True)
@pytest.mark.parametrize(
    ("kernel", "current", "holds"), [("B30f", 40, True), ("B30f", 200, False), ("BONE", 40, False)]
)
def test_the_thin_low_dose_thorax(rules: tuple[Rule, ...], kernel: str, current: int, holds: bool) -> None:
    series = ct_series(1, KVP=100, SliceThickness=1, ConvolutionKernel=kernel, XRayTubeCurrent=current)
    decided = [*rules, Rule("rest", {}, "abdomen", (1.0,), " ISCL", ("pacs",))]
    assert (decide(decided, series, 1).rule.name == "thin low-dose thorax") is holds


@pytest.mark.parametrize("rules", [2], indirect=True)
@pytest.mark.parametrize(
    ("overrides", "count", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, 2, "localizers are not denoised"),
        ({}, 4, "too few slices"),
        ({"ConvolutionKernel": "B70f"}, 40, "not trained for these"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, 40, "not trained for these"),
    ],
)
def test_what_is_left_alone(rules: tuple[Rule, ...], overrides: dict[str, object], count: int, reason: str) -> None:
    with pytest.raises(IgnoreSeriesError, match=reason):
        decide(rules, ct_series(1, **overrides), count)
    assert decide(rules, ct_series(1), 40).rule.name == "CT"
