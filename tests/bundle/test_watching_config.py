"""Validation and tracking as ``configs/train.json`` puts them together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import ct_dataset, part10, soft_tissue
from monai.bundle import ConfigWorkflow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_bundle.scripts.evaluation.image_quality import psnr
from monai_bundle.scripts.model.denoiser import ISCLDenoiser

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
CONFIG = BUNDLE / "configs" / "train.json"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two CT slices in each of ``clean``, ``noisy``, ``validation_clean`` and ``validation_noisy``."""
    for number, name in enumerate(("clean", "noisy", "validation_clean", "validation_noisy")):
        (tmp_path / name).mkdir()
        for file in range(2):
            pixels = soft_tissue(seed=10 * number + file, side=64)
            dataset = ct_dataset(pixels, InstanceNumber=file + 1, PatientID=f"patient {number}")
            (tmp_path / name / f"{file}.dcm").write_bytes(part10(dataset))
    return tmp_path


def workflow(data: Path, monkeypatch: pytest.MonkeyPatch, **more: object) -> ConfigWorkflow:
    monkeypatch.syspath_prepend(str(BUNDLE))
    made = ConfigWorkflow(
        config_file=str(CONFIG),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        clean_dir=str(data / "clean"),
        noisy_dir=str(data / "noisy"),
        output_dir=str(data / "runs"),
        max_iterations=2,
        batch_size=2,
        device="$torch.device('cpu')",
        **more,
    )
    made.initialize()
    return made


def folders(data: Path) -> dict[str, str]:
    return {name: str(data / name.removesuffix("_dir")) for name in ("validation_clean_dir", "validation_noisy_dir")}


def test_properties_are_where_monai_looks_for_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workflow(data, monkeypatch, **folders(data), validation_slices=1)
    assert not made.check_properties()
    assert len(made.val_dataset) == 1
    assert len(made.val_dataset_data) == 2
    assert made.evaluator.inferer is made.val_inferer
    assert made.evaluator.network is made.parser.get_parsed_content("averaged_network").module
    config = json.loads(CONFIG.read_text())
    handlers = {handler["_target_"]: handler for handler in config["train"]["handlers"]}
    assert handlers["scripts.training.validation.IterationValidation"]["interval"] == "@val_interval"
    assert handlers["scripts.training.validation.IterationValidation"]["validator"] == "@validate::evaluator"


def test_training_validates_the_average(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workflow(data, monkeypatch, **folders(data), val_interval=2)
    made.run()
    events = EventAccumulator(str(data / "runs")).Reload()
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("validation/")} == {
        "validation/psnr",
        "validation/ssim",
    }
    network = ISCLDenoiser().eval()
    network.load_state_dict(torch.load(data / "runs" / "best.pt", weights_only=True))
    expected = []
    for pair in made.val_dataset:
        with torch.no_grad():
            denoised = network(torch.as_tensor(pair["image"])[None])[0, 0].numpy()
        expected.append(psnr(denoised, pair["label"][0], (-160, 240)))
    measured = [(event.step, event.value) for event in events.Scalars("validation/psnr")]
    assert measured == [(2, pytest.approx(np.mean(expected), abs=1e-3))]  # dB; float32 against float64


def test_noisy_slices_alone_are_enough(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in range(2):
        noise = np.random.default_rng(file).normal(0, 20, (64, 64))
        pixels = (np.where(np.arange(64) < 32, 1000, 1120) + noise).astype(np.int16)
        dataset = ct_dataset(pixels, InstanceNumber=file + 1, PatientID="patient 3")
        (data / "validation_noisy" / f"{file}.dcm").write_bytes(part10(dataset))
    made = workflow(data, monkeypatch, validation_noisy_dir=str(data / "validation_noisy"), val_interval=1, patience=9)
    made.run()
    events = EventAccumulator(str(data / "runs")).Reload()
    assert [event.step for event in events.Scalars("validation/estimated_psnr")] == [1, 2]
    assert (data / "runs" / "best.pt").exists()


def test_mlflow_gets_loss_and_metrics_at_their_iterations(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MONAI's own settings of ``--tracking mlflow``."""
    mlflow = pytest.importorskip("mlflow", reason="an optional extra, pip install 'iscl-node[mlflow]'")
    workflow(data, monkeypatch, **folders(data), val_interval=2, tracking="mlflow").run()
    client = mlflow.MlflowClient(f"sqlite:///{data / 'runs' / 'mlruns.db'}")
    [run] = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FINISHED"
    steps = {
        name: [each.step for each in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }
    assert steps == {"train_loss": [1, 2], "psnr": [2], "ssim": [2]}
