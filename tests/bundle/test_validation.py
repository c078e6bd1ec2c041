"""Validation during a training: what is measured, the best weights, stopping early, going on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tiny_training import TinyTraining
from torch import nn
from torch.utils.data import DataLoader

from monai_bundle.scripts.model.window import HUWindow
from monai_bundle.scripts.training.checkpoints import CHECKPOINT
from monai_bundle.scripts.training.validation import BEST_MODEL, BestModel, IterationValidation
from monai_bundle.scripts.training.validation_metrics import additional_metrics, key_metric

WINDOW = HUWindow.of_profile("abdomen")


class Scripted(nn.Module):
    """A denoiser whose error decides the PSNR: ``errors`` in HU, one for each validation."""

    def __init__(self, errors: list[float]) -> None:
        super().__init__()
        self.errors = errors
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.weight.add_(1)  # counts the validations
        return image + self.errors.pop(0)


def evaluator_of(network: nn.Module, items: list[dict[str, np.ndarray]]) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(items, batch_size=1),
        network=network,
        inferer=SimpleInferer(),
        key_val_metric=key_metric(items, WINDOW),
        additional_metrics=additional_metrics(items, WINDOW),
        decollate=False,
    )


def flat_pair() -> list[dict[str, np.ndarray]]:
    return [{"image": np.full((1, 16, 16), 50, np.float32), "label": np.full((1, 16, 16), 50, np.float32)}]


def validated(
    folder: Path, errors: list[float], *, iterations: int = 6, interval: int = 1, patience: int = 0
) -> tuple[TinyTraining, BestModel]:
    """A training that validates every ``interval`` iterations, with checkpoints every 2."""
    training = TinyTraining(iterations)
    evaluator = evaluator_of(Scripted(errors), flat_pair())
    IterationValidation(evaluator, interval).attach(training.trainer)
    best = BestModel(evaluator, evaluator.network, str(folder), interval, patience)
    best.attach(training.trainer)
    training.with_checkpoints(str(folder), 2, {"best_model": best})
    return training, best


def validations_at_best(folder: Path) -> float:
    """How many validations there had been when ``best.pt`` was written."""
    return float(torch.load(folder / BEST_MODEL, weights_only=True)["weight"])


def test_metrics_of_pairs_are_those_of_the_paper() -> None:
    random = np.random.default_rng(0)
    label, image = (random.uniform(-400, 500, (2, 1, 32, 40))).astype(np.float32)
    evaluator = evaluator_of(nn.Identity(), [{"image": image, "label": label}])
    evaluator.run()
    a, b = ((np.clip(each[0].astype(float), -160, 240) + 160) / 400 * 255 for each in (label, image))
    assert evaluator.state.metrics["psnr"] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), rel=1e-5)
    expected = structural_similarity(a, b, data_range=255, use_sample_covariance=False)
    assert evaluator.state.metrics["ssim"] == pytest.approx(expected, abs=1e-5)  # float32 windows of 49 pixels


def test_best_weights_are_kept(tmp_path: Path) -> None:
    training, best = validated(tmp_path, [9, 5, 7, 6, 8, 5.5])
    training.trainer.run()
    assert validations_at_best(tmp_path) == 2
    assert best.evaluator.state.best_metric == pytest.approx(20 * np.log10(400 / 5), rel=1e-5)
    assert best.state_dict()["iteration"] == 2


def test_validation_is_at_its_iteration(tmp_path: Path) -> None:
    training, best = validated(tmp_path, [5, 6, 7], interval=2)
    seen: list[tuple[int, int]] = []
    best.evaluator.add_event_handler(
        Events.COMPLETED, lambda engine: seen.append((training.trainer.state.iteration, engine.state.epoch))
    )
    training.trainer.run()
    assert seen == [(2, 2), (4, 4), (6, 6)]


def test_best_of_the_whole_training_survives_a_resume(tmp_path: Path) -> None:
    validated(tmp_path, [9, 2], iterations=2)[0].trainer.run()
    training, best = validated(tmp_path, [8, 7, 6], iterations=5)
    training.trainer.run()
    assert validations_at_best(tmp_path) == 2  # the file of the first run
    assert best.state_dict()["iteration"] == 2
    better, _ = validated(tmp_path, [1], iterations=6)
    better.trainer.run()
    assert validations_at_best(tmp_path) == 1  # the first validation of the third run


@pytest.mark.parametrize(("patience", "last"), [(0, 6), (1, 3), (2, 6), (3, 6)])
def test_patience_ends_the_training(tmp_path: Path, patience: int, last: int) -> None:
    training, _ = validated(tmp_path, [9, 5, 7, 4, 8, 9], patience=patience)
    training.trainer.run()
    assert training.trainer.state.iteration == last
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["iteration"] == last


def test_stopped_training_stays_stopped_until_it_gets_more_patience(tmp_path: Path) -> None:
    validated(tmp_path, [5, 6, 7], patience=2)[0].trainer.run()
    again, _ = validated(tmp_path, [], patience=2)
    again.trainer.run()
    assert again.dataset.drawn == []
    patient, _ = validated(tmp_path, [7, 7, 7], patience=4)
    patient.trainer.run()
    assert patient.trainer.state.iteration == 5


def test_checkpoint_without_a_best_model_is_taken(tmp_path: Path) -> None:
    TinyTraining(2).with_checkpoints(str(tmp_path)).trainer.run()
    training = TinyTraining(3)
    evaluator = evaluator_of(Scripted([5]), flat_pair())
    best = BestModel(evaluator, evaluator.network, str(tmp_path), 1)
    training.with_checkpoints(str(tmp_path), more={"best_model": best})
    assert training.trainer.state.iteration == 2
    assert best.state_dict()["iteration"] == -1


def test_values_of_another_metric_do_not_count(tmp_path: Path) -> None:
    _, best = validated(tmp_path, [])
    best.load_state_dict({"metric": "another", "best": 1e9, "iteration": 7})
    assert best.state_dict()["iteration"] == -1


def test_without_slices_there_is_no_validation(tmp_path: Path) -> None:
    training = TinyTraining(2)
    evaluator = evaluator_of(Scripted([]), [])
    IterationValidation(evaluator, 1).attach(training.trainer)
    BestModel(evaluator, evaluator.network, str(tmp_path), 1).attach(training.trainer)
    training.trainer.run()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"^--patience needs --validation_noisy_dir"):
        BestModel(evaluator, evaluator.network, str(tmp_path), 1, patience=1)


def test_noisy_slices_alone_have_an_estimate() -> None:
    """A step of 200 HU with 20 HU of noise: all of it is left, so the estimate is the noise, within 6 % (0.5 dB)."""
    noise = np.random.default_rng(0).normal(0, 20, (1, 64, 64))
    image = (np.where(np.arange(64) < 32, -60, 140) + noise).astype(np.float32)
    evaluator = evaluator_of(nn.Identity(), [{"image": image}])
    evaluator.run()
    assert evaluator.state.metrics == {
        "estimated_psnr": pytest.approx(20 * np.log10(400 / 20), abs=0.5)
    }  # 6 % of the noise


def test_slices_that_tell_nothing_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"^no slice in --validation_noisy_dir has uniform regions"):
        key_metric([{"image": np.full((1, 64, 64), -1000, np.float32)}], WINDOW)
