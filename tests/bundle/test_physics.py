"""Noise and sharpness of the forms, on a phantom with known ones."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from monai_bundle.scripts.evaluation.evaluation import EvaluatedPair
from monai_bundle.scripts.evaluation.forms import Estimates
from monai_bundle.scripts.evaluation.physics import MeasuredSlice, NoiseAndSharpness, mean_curves
from monai_bundle.scripts.model.denoiser import ISCLDenoiser

MM = 0.8
SIGMA = 25.0
BLUR = 0.8


class Nothing(nn.Module):
    """An H that finds no noise."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Blur(nn.Module):
    """An F that blurs by a Gaussian of 0.8 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, BLUR, BLUR)))


def phantom() -> np.ndarray:
    """An organ of 60 HU in fat of -60 HU, blurred by 1 pixel."""
    y, x = np.mgrid[:160, :160] - 80.2
    return ndimage.gaussian_filter(np.where(np.hypot(x, y) < 55, 60.0, -60.0), 1.0).astype(np.float32)


def pair(name: str, seed: int, spacing_mm: float = MM) -> EvaluatedPair:
    """The phantom, and itself with white noise."""
    normal = phantom()
    noisy = normal + np.random.default_rng(seed).normal(0, SIGMA, normal.shape).astype(np.float32)
    denoiser = ISCLDenoiser(noise_prior=False)
    denoiser.f, denoiser.h = Blur(), Nothing()
    image = torch.from_numpy(noisy)[None, None]
    x = denoiser.window.to_unit(image)
    estimates = Estimates(denoiser, image, denoiser.first_estimate(x), denoiser.second_estimate(x))
    return EvaluatedPair(name, "P", spacing_mm, normal, estimates, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written of eight draws of the noise of one slice."""
    folder = tmp_path_factory.mktemp("physics")
    part = NoiseAndSharpness()
    for seed in range(8):
        part.add(pair(f"seed{seed}/a.dcm", seed))
    (folder / "section.md").write_text(part.write(folder))
    return folder


@pytest.fixture(scope="module")
def table(folder: Path) -> dict[str, dict[str, str]]:
    """Rows by form."""
    with (folder / "physics.csv").open(newline="") as file:
        return {row["form"]: row for row in csv.DictReader(file)}


def test_table_and_figures_are_written(folder: Path, table: dict[str, dict[str, str]]) -> None:
    assert list(table) == ["input", "F", "x - H", "ensemble", "denoised", "normal dose"]
    assert {path.name for path in folder.glob("*.png")} == {"noise_power.png", "task_transfer.png"}
    section = (folder / "section.md").read_text()
    assert "frequencies in 1/mm" in section
    assert f"| F | 1 | {float(table['F']['noise_hu']):.2f} (0.00) |" in section


def test_noise_is_that_of_every_form(table: dict[str, dict[str, str]]) -> None:
    """White noise in, its peak anywhere; a Gaussian filter leaves 1 / (2 sqrt(pi) 0.8) = 0.35 of the deviation of
    white noise, and low frequencies. Uncertain by 1 / sqrt(2 n), n some 40,000. The mean of the frequencies 1/12 ...
    12/12 rises by 3 %, as the polynomial takes 40 % of the first.
    """
    assert float(table["input"]["noise_hu"]) == pytest.approx(SIGMA, rel=0.02)
    impulse = ndimage.gaussian_filter(np.eye(1, 441, 220).reshape(21, 21), BLUR)
    assert float(table["F"]["noise_hu"]) == pytest.approx(SIGMA * math.sqrt((impulse**2).sum()), rel=0.05)
    assert float(table["normal dose"]["noise_hu"]) < 1  # a square may touch the edge of its region
    nyquist = 0.5 / MM
    assert float(table["input"]["nps_mean"]) == pytest.approx(nyquist * 13 / 24, rel=0.05)
    assert float(table["F"]["nps_peak"]) < nyquist / 3


def test_sharpness_is_relative_to_the_normal_dose(table: dict[str, dict[str, str]]) -> None:
    """A blur of 1 pixel more 0.8 is one of 1.28. The noise of 8 averaged draws and some 40 pieces of edge disturbs
    the input by 2 %.
    """
    assert float(table["normal dose"]["ttf50"]) == pytest.approx(math.sqrt(math.log(2) / 2) / math.pi / MM, rel=0.05)
    assert float(table["normal dose"]["ttf50_ratio"]) == 1
    assert float(table["F"]["ttf50_ratio"]) == pytest.approx(1 / math.hypot(1, BLUR), rel=0.04)
    assert float(table["input"]["ttf50_ratio"]) == pytest.approx(1, abs=0.04)


def test_pixels_of_unknown_size_are_the_unit() -> None:
    rows = []
    for spacing in (MM, math.nan):
        one = pair("a.dcm", 0, spacing)
        measured = MeasuredSlice.of(one)
        measured.add(one)
        rows.append(measured.rows("a.dcm")[0])
    known, unknown = rows
    assert (known["unit"], unknown["unit"]) == ("1/mm", "1/pixel")
    for key in ("nps_mean", "ttf50"):
        assert unknown[key] == pytest.approx(MM * known[key])


def test_slice_without_organs_is_said_to_be_not_measured() -> None:
    one = replace(pair("a.dcm", 0), normal=np.full((160, 160), -90.0, np.float32))
    measured = MeasuredSlice.of(one)
    measured.add(one)
    row = measured.rows("a.dcm")[0]
    assert (row["squares"], row["edges"]) == (0, 0)
    assert all(math.isnan(row[key]) for key in ("noise_hu", "nps_peak", "ttf50", "ttf10_ratio"))


def test_curves_are_averaged_where_all_of_them_reach() -> None:
    short, long = (np.array([0.1, 0.4]), np.array([1.0, 4.0])), (np.array([0.0, 0.6]), np.array([0.0, 6.0]))
    x, y = mean_curves([{"F": short}, {"F": long}])["F"]
    assert (x[0], x[-1]) == pytest.approx((0.1, 0.4))
    np.testing.assert_allclose(y, 10 * x)
