"""``iscl-node assess`` on a series whose answer is known."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from iscl_node.assessment.cases import Case
from iscl_node.assessment.methods import FloatImage, NodeMethod, Strength
from iscl_node.assessment.own_series import body_mm, disc_rows
from iscl_node.assessment.pictures import Shown, draw_page
from iscl_node.cli import app
from iscl_node.domain import ModelIdentity
from iscl_node.domain.strength import AutoStrength


class Smoothing:
    """Smooths by 1.5 pixels; its window is that of CT."""

    model = ModelIdentity("smoothing", "1", "0" * 64)
    window_hu = (-1024.0, 3071.0)

    def denoise(self, hu: FloatImage) -> FloatImage:
        """Gaussian."""
        return np.asarray(ndimage.gaussian_filter(hu, 1.5), np.float32)


def phantom(seed: int) -> Case:
    """Uniform, with white noise of 15 HU."""
    hu = np.random.default_rng(seed).normal(40, 15, (256, 256)).astype(np.float32)
    return Case("P", str(seed), "", 5.0, 0.7, 100.0, hu)


def test_observers_see_the_discs_of_all_slices_together() -> None:
    rows = disc_rows([phantom(0), phantom(1)], NodeMethod("s", Smoothing()), 1.0)
    small, *_, large = rows
    assert int(small["squares"]) >= 60
    assert float(small["contrast kept"]) < float(large["contrast kept"]) < 1
    # No channel without noise of its own: the Hotelling observer stays near the other one, as white noise has it.
    assert all(float(row["d' Hotelling as is"]) < 1.3 * float(row["d' NPW as is"]) for row in rows)
    # White noise: smoothing with a Gaussian comes nearer to the disc's matched filter, and the ideal is the norm.
    assert float(large["d' NPW as is"]) == pytest.approx(3 * np.sqrt(np.pi * 25) / 0.7 / 15, rel=0.25)


def test_nothing_is_said_of_discs_without_uniform_tissue() -> None:
    empty = Case("P", "1", "", 5.0, 0.7, 100.0, np.full((64, 64), -1000, np.float32))
    rows = disc_rows([empty], NodeMethod("s", Smoothing()), 1.0)
    assert all(np.isnan(float(row["d' NPW left"])) for row in rows)


def test_the_target_follows_the_size_of_the_body_as_in_the_node() -> None:
    rows, columns = np.ogrid[-128:128, -128:128]
    hu = np.where(rows**2 + columns**2 < 100**2, phantom(0).hu, np.float32(-1000))
    head = [Case("P", str(spacing), "", 5.0, spacing, 100.0, hu) for spacing in (0.7, 0.9)]
    assert body_mm(head) == pytest.approx(160, abs=2)
    assert body_mm([phantom(0)]) is None
    strength = Strength("auto", AutoStrength(10))
    share = strength.of([case.hu for case in head], body_mm(head))
    assert share == pytest.approx(1 - 4 / 15, abs=0.02)
    assert strength.of([hu]) < share - 0.3


def test_the_command_writes_a_page_and_rows(write_series: object, identity_bundle: Path, tmp_path: Path) -> None:
    source, target = write_series(2), tmp_path / "out"  # type: ignore[operator]
    arguments = ["assess", str(source), str(target), "--bundle", str(identity_bundle), "--profile", "abdomen"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 slices measured" in result.output
    page = (target / "index.html").read_text()
    assert "not for diagnosis" in page
    assert "data:image/png;base64," in page
    with (target / "slices.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[0]["noise as is"] == rows[0]["noise left"]


def test_a_page_without_references_leaves_no_column_for_them(tmp_path: Path) -> None:
    hu = phantom(0).hu
    for name, normal in (("own", None), ("gate", hu)):
        draw_page(tmp_path / f"{name}.png", [Shown("a", hu, normal, {"b": hu})])
    own, gate = (Image.open(tmp_path / f"{name}.png").width for name in ("own", "gate"))
    assert own / gate == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize(("folder", "said"), [("", "holds no usable slice of anybody"), ("nowhere", "is not a folder")])
def test_a_folder_without_slices_is_said(folder: str, said: str, tmp_path: Path, identity_bundle: Path) -> None:
    places = [str(tmp_path / folder), str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["assess", *places, "--bundle", str(identity_bundle), "--profile", "abdomen"])
    assert result.exit_code == 2
    assert said in result.output
