"""``evaluate.json`` as a user runs it, and its tables."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import ct_dataset, part10, soft_tissue
from monai.bundle import ConfigWorkflow
from tiny_training import tiny
from torch import nn

from monai_bundle.scripts.arguments import check_arguments
from monai_bundle.scripts.data.pairs import evaluation_pairs
from monai_bundle.scripts.evaluation.evaluation_tables import Column, mean_and_deviation, means_table
from monai_bundle.scripts.model.denoiser import ISCLDenoiser

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
NAMES = ("P1/seed1/a.dcm", "P1/seed2/a.dcm", "P2/seed1/b.dcm")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``clean`` and ``noisy`` of three pairs: two draws of the noise, and a slice without added noise."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, name in enumerate(NAMES):
        normal = soft_tissue(seed=0, side=80)
        added = np.random.default_rng(number).normal(0, 40, normal.shape) * ("seed1/b" not in name)
        for kind, pixels in (("clean", normal), ("noisy", (normal + added).astype(np.int16))):
            path = folder / kind / name
            path.parent.mkdir(parents=True)
            path.write_bytes(part10(ct_dataset(pixels, PatientID=name[:2])))
    return folder


def workflow(pairs: Path, output: Path, **more: object) -> ConfigWorkflow:
    return ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "evaluate.json"),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(BUNDLE),
        clean_dir=str(pairs / "clean"),
        noisy_dir=str(pairs / "noisy"),
        output_dir=str(output),
        **more,
    )


@pytest.fixture(scope="module")
def evaluated(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an evaluation of tiny networks."""
    output = tmp_path_factory.mktemp("evaluated")
    torch.manual_seed(0)
    denoiser = ISCLDenoiser()
    denoiser.f, denoiser.h = tiny(last=nn.Tanh()), tiny()
    torch.save(denoiser.state_dict(), output / "tiny.pt")
    evaluation = workflow(
        pairs, output, checkpoint=str(output / "tiny.pt"), device="$torch.device('cpu')", figures=5, gammas=[0, 0.5, 1]
    )
    evaluation.initialize()
    sys.path.insert(0, str(BUNDLE))
    try:
        network = evaluation.parser.get_parsed_content("network_def")
        network.f, network.h = denoiser.f, denoiser.h
        evaluation.run()
    finally:
        sys.path.remove(str(BUNDLE))
    return output


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_slice_has_every_form(evaluated: Path) -> None:
    table = rows(evaluated / "metrics.csv")
    forms = ["input", "F", "x - H", "ensemble", "denoised"]
    assert [(row["name"], row["form"]) for row in table] == [(name, form) for name in NAMES for form in forms]


def test_measures_are_those_of_the_pair(evaluated: Path) -> None:
    """Added noise of 40 HU in the input: inside the window its RMSE is 40, up to 3 of 1/sqrt(2 n) and rounding."""
    table = {(row["name"], row["form"]): row for row in rows(evaluated / "metrics.csv")}
    noisy = table["P1/seed1/a.dcm", "input"]
    assert float(noisy["rmse_hu"]) == pytest.approx(40, abs=2)
    assert float(noisy["noise_hu"]) == pytest.approx(40, abs=3)
    assert float(table["P2/seed1/b.dcm", "input"]["psnr_db"]) == math.inf


def test_summary_has_means_and_patients(evaluated: Path) -> None:
    summary = (evaluated / "summary.md").read_text()
    assert "not for diagnosis" in summary
    assert "| ensemble | 2 |" in summary.split("### P1")[1].split("### P2")[0]
    assert summary.count("| 0.5 | 3 |") == 1


def test_ensemble_is_the_blend_at_its_gamma(evaluated: Path) -> None:
    forms = {(row["name"], row["form"]): row["psnr_db"] for row in rows(evaluated / "metrics.csv")}
    for row in rows(evaluated / "gamma.csv"):
        assert row["psnr_db"] == forms[row["name"], {"0": "x - H", "0.5": "ensemble", "1": "F"}[row["gamma"]]]


def test_draws_of_a_slice_are_one_row_of_physics(evaluated: Path) -> None:
    inputs = [row for row in rows(evaluated / "physics.csv") if row["form"] == "input"]
    assert [(row["name"], row["draws"], row["unit"]) for row in inputs] == [
        ("P1/a.dcm", "2", "1/mm"),
        ("P2/b.dcm", "1", "1/mm"),
    ]


def test_figures_are_drawn_once_for_each_slice(evaluated: Path) -> None:
    drawn = {path.name for path in evaluated.glob("*.png")}
    assert drawn == {"strip_1.png", "strip_2.png", "gamma.png"}  # too small for squares and edges


def test_monai_finds_every_property(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    evaluation = workflow(pairs, tmp_path)
    evaluation.initialize()
    assert not evaluation.check_properties()


def test_misspelt_argument_is_refused() -> None:
    known = json.loads((BUNDLE / "configs" / "evaluate.json").read_text())["arguments"]["configs"]
    with pytest.raises(ValueError, match="did you mean --checkpoint"):
        check_arguments(str(BUNDLE), known, argv=["--chekpoint"])


def test_pairs_must_be_given(tmp_path: Path) -> None:
    for folders, missing in (
        (("", ""), "--clean_dir and --noisy_dir"),
        (("", str(tmp_path)), "--clean_dir"),
        ((str(tmp_path), ""), "--noisy_dir"),
    ):
        with pytest.raises(ValueError, match=f"^{missing} is missing"):
            evaluation_pairs(*folders, dataset_dir="", split="")


BIAS = Column("bias_hu", "bias, HU", 2)


def test_table_has_mean_and_deviation_over_slices() -> None:
    rows = [{"form": "F", "bias_hu": 3}, {"form": "F", "bias_hu": -1}, {"form": "input", "bias_hu": math.nan}]
    columns = (BIAS, replace(BIAS, title="absolute bias, HU", absolute=True))
    assert means_table(rows, columns).splitlines() == [
        "| form | slices | bias, HU | absolute bias, HU |",
        "|---|--:|--:|--:|",
        "| F | 2 | 1.00 (2.00) | 2.00 (1.00) |",
        "| input | 1 | - | - |",
    ]


def test_infinite_and_missing_values_are_said() -> None:
    assert mean_and_deviation([math.inf, 30.0], BIAS) == "inf"
    assert mean_and_deviation([math.nan, 1.0], BIAS) == "1.00 (0.00)"
