"""Odd but real CT series: the same becomes of them offline as is told before, and as docs/compatibility.md says."""

from pathlib import Path

import pydicom
import pytest
from compatibility import KINDS, Kind, page
from surroundings import REPOSITORY

from iscl_node.denoise.bundle_digest import bundle_identity
from iscl_node.domain import Rule
from iscl_node.making.explanation import explain, told
from iscl_node.offline import Denoising, FinishedSeries, IgnoredSeries, RefusedSeries, denoise_folder
from iscl_node.settings import QualitySettings

DOCUMENT = REPOSITORY / "docs" / "compatibility.md"
OUTCOMES = {FinishedSeries: "derived", IgnoredSeries: "ignored", RefusedSeries: "quarantine"}
RULE = Rule("CT", {"Modality": "CT"}, "abdomen", (1.0,), " ISCL", ("pacs",))


def test_the_document_is_the_one_that_the_cases_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "run: python tests/compatibility.py > docs/compatibility.md"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_compatibility(kind: Kind, tmp_path: Path, identity_bundle: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number, content in enumerate(kind.make()):
        (source / f"{number:02}.dcm").write_bytes(content)
    assert offline(kind, source, target, identity_bundle) == explained(kind, source, identity_bundle)
    made = list(target.rglob("*.dcm"))
    assert len(made) == kind.derived
    assert len({pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in made}) == kind.derived


def offline(kind: Kind, source: Path, target: Path, bundle: Path) -> set[str]:
    outcomes = list(denoise_folder(source, target, Denoising(bundle, "abdomen", (1.0,), " ISCL", "cpu")))
    assert kind.says.lower() in " ".join(map(str, outcomes)).lower()
    found = {OUTCOMES[type(each)] for each in outcomes if type(each) in OUTCOMES} or {"refused"}
    assert found == {kind.outcome}
    return found


def explained(kind: Kind, source: Path, bundle: Path) -> set[str]:
    series, skipped = explain(source, [RULE], bundle_identity(bundle), "0", QualitySettings().limits())
    text = [line for each in series for line in told(each)] + [each.reason for each in skipped]
    assert kind.says.lower() in " ".join(text).lower()
    return {each.outcome for each in series} or {"refused"}
