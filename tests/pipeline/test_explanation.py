"""What the node would do, told before it does it; the same as it then does."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from factories import ROOT
from phantom import BODY_SPACING, anatomy, noise

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.bundle_digest import bundle_identity
from iscl_node.domain import EvidenceChoice, Rule
from iscl_node.domain.strength import AutoStrength, StrengthChoice
from iscl_node.errors import ConfigurationError
from iscl_node.making.explanation import SeriesExplanation, explain, told
from iscl_node.offline import Denoising, denoise_folder
from iscl_node.settings import QualitySettings

WriteSeries = Callable[..., Path]


def rule(name: str, ignore: str = "", strengths: tuple[StrengthChoice, ...] = (1.0,), **when: Any) -> Rule:
    return Rule(name, when, "abdomen", strengths, " ISCL", () if ignore else ("pacs", "vault"), ignore)


@pytest.fixture
def explained(identity_bundle: Path) -> Callable[..., SeriesExplanation]:
    def explain_one(path: Path, *rules: Rule) -> SeriesExplanation:
        (one,), skipped = explain(path, rules, bundle_identity(identity_bundle), "0.1.0", QualitySettings().limits())
        assert skipped == ()
        return one

    return explain_one


def test_what_is_told_is_what_is_made(
    write_series: WriteSeries, explained: Callable[..., SeriesExplanation], identity_bundle: Path, tmp_path: Path
) -> None:
    source, strengths = write_series(2), (0.5, 1.0)
    told_series = [each.series for each in explained(source, rule("all", strengths=strengths)).made]
    list(denoise_folder(source, tmp_path / "out", Denoising(identity_bundle, "abdomen", strengths, " ISCL", "cpu")))

    made = {
        (str(each.SeriesInstanceUID), int(each.SeriesNumber), str(each.SeriesDescription))
        for each in map(pydicom.dcmread, (tmp_path / "out").rglob("*.dcm"))
    }
    assert {(each.series_instance_uid, each.number, each.description) for each in told_series} == made
    assert len(made) == 2


def test_a_derived_series_is_told_with_the_rules_before_it(
    write_series: WriteSeries, explained: Callable[..., SeriesExplanation]
) -> None:
    small = rule("small", ignore="too few", NumberOfSeriesRelatedInstances={"max": 1})
    ct = rule("ct", Modality="CT", any=[{"KVP": 80}, {"KVP": {"min": 100}}])
    one = explained(write_series(2), small, ct, rule("never asked"))

    assert list(told(one))[:10] == [
        f"series {ROOT}.2, 2 instances",
        "  derived: rule 'ct' holds",
        "  rule 'small' does not hold",
        "    no  NumberOfSeriesRelatedInstances is at most 1 (found 2)",
        "  rule 'ct' holds",
        "    yes all of",
        '      yes Modality is "CT" (found CT)',
        "      yes any of",
        "        no  KVP is 80 (found 120.0)",
        "        yes KVP is at least 100 (found 120.0)",
    ]
    made, settings = list(told(one))[10:]
    assert made.endswith('"THORAX ISCL" for pacs, vault')
    assert settings.startswith("    profile abdomen, strength 1; not what the model was made for: a child, or")


def test_a_strength_that_the_noise_decides_is_told(
    write_series: WriteSeries, explained: Callable[..., SeriesExplanation]
) -> None:
    image = np.rint(anatomy() + noise(25, seed=0) + 1024).astype(np.int16)
    series = write_series(2, pixels=image, PixelSpacing=BODY_SPACING)
    one = explained(series, rule("all", strengths=(AutoStrength(10), 1.0)))
    auto, whole = (line for line in told(one) if "profile" in line)
    assert re.match(r"    profile abdomen, strength 0\.\d+ \(auto: 2\d\.\d HU of noise, target 10 HU\); not what", auto)
    assert whole.startswith("    profile abdomen, strength 1; not what the model was made for: pixels of another size")
    assert [each.strength for each in one.made] == [pytest.approx(0.6, abs=0.05), 1.0]


def test_what_the_judge_turns_down_before_the_work_is_told(
    write_series: WriteSeries, explained: Callable[..., SeriesExplanation]
) -> None:
    image = np.rint(anatomy() + noise(250, seed=0) + 1024).astype(np.int16)
    one = explained(write_series(2, pixels=image), rule("all"))
    assert (one.outcome, one.made) == ("quarantine", ())
    assert "max_noise_hu = 150" in one.reason


def test_a_gap_is_told(write_series: WriteSeries, explained: Callable[..., SeriesExplanation]) -> None:
    folder = write_series(6)
    (folder / f"{ROOT}.3.3.dcm").unlink()
    one = explained(folder, rule("ct"))
    assert one.outcome == "derived"
    assert list(told(one))[2] == "  incomplete: 1 slice missing between 2.0 and 4.0 mm"


def test_evidence_is_told(write_series: WriteSeries, explained: Callable[..., SeriesExplanation]) -> None:
    asking = replace(rule("all"), evidence=EvidenceChoice(noise_map=True, report=True))
    assert list(told(explained(write_series(1), asking)))[-1] == "    beside it: noise map, report"


@pytest.mark.parametrize(
    ("overrides", "rules", "outcome", "reason"),
    [
        ({}, [rule("off", ignore="switched off")], "ignored", "rule 'off': switched off"),
        ({}, [rule("mr", Modality="MR")], "quarantine", "no rule matches this series; add one under [[rules]]"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, [rule("all")], "ignored", "it is a localizer"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, [rule("all")], "ignored", "does not receive MR Image Storage"),
    ],
)
def test_what_is_not_derived_is_told_with_its_reason(
    write_series: WriteSeries,
    explained: Callable[..., SeriesExplanation],
    overrides: dict[str, Any],
    rules: list[Rule],
    outcome: str,
    reason: str,
) -> None:
    one = explained(write_series(1, **overrides), *rules)
    assert (one.outcome, one.made, one.send_to) == (outcome, (), ())
    assert reason in one.reason


def test_own_output_is_told(
    write_series: WriteSeries, explained: Callable[..., SeriesExplanation], identity_bundle: Path, tmp_path: Path
) -> None:
    denoising = Denoising(identity_bundle, "abdomen", (1.0,), " ISCL", "cpu")
    list(denoise_folder(write_series(1), tmp_path / "out", denoising))
    assert explained(tmp_path / "out", rule("all")).reason == "made by this node already"


def test_one_file_and_what_is_none(write_series: WriteSeries, tmp_path: Path, identity_bundle: Path) -> None:
    model = bundle_identity(identity_bundle)
    folder = write_series(2)
    (file, _) = sorted(folder.iterdir())
    (one,), _ = explain(file, [rule("all")], model, "0", QualitySettings().limits())
    assert one.instances == 1
    (folder / "notes.txt").write_text("no DICOM")
    _, (skipped,) = explain(folder, [rule("all")], model, "0", QualitySettings().limits())
    assert skipped.reason == "not a DICOM file"
    with pytest.raises(ConfigurationError, match="holds no files"):
        explain(tmp_path / "nowhere", [rule("all")], model, "0", QualitySettings().limits())


@pytest.mark.parametrize(("window_hu", "outcome"), [((-2000.0, -1500.0), "ignored"), ((-160.0, 240.0), "derived")])
def test_a_series_of_which_nothing_lies_in_the_window_of_its_profile_is_ignored(
    write_series: WriteSeries, identity_bundle: Path, window_hu: tuple[float, float], outcome: str
) -> None:
    model, limits = bundle_identity(identity_bundle), QualitySettings().limits()
    (one,), _ = explain(write_series(2), [rule("all")], model, "0", limits, {"abdomen": window_hu})
    assert one.outcome == outcome
    assert ("window of profile abdomen" in one.reason) == (outcome == "ignored")


def test_the_identity_of_a_bundle_needs_no_weights(identity_bundle: Path) -> None:
    model = load_bundle(identity_bundle, "abdomen", "cpu").model
    assert bundle_identity(identity_bundle) == model
    assert bundle_identity(identity_bundle, model.digest) == model
    with pytest.raises(ConfigurationError, match="the settings trust"):
        bundle_identity(identity_bundle, "0" * 64)
