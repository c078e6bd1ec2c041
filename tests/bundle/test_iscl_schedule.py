"""The learning rate, the weight average and the checkpoints of a training."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import TinyTraining
from torch import Tensor
from torch.optim import RAdam
from torch.optim.swa_utils import AveragedModel

from monai_bundle.scripts.training.averaging import WeightAveraging
from monai_bundle.scripts.training.checkpoints import CHECKPOINT, MODEL, TrainingCheckpoints
from monai_bundle.scripts.training.schedule import LinearSchedule


def schedule(iterations: int) -> LinearSchedule:
    optimizers = [RAdam([torch.zeros(1, requires_grad=True)], lr=1e-4) for _ in range(2)]
    return LinearSchedule(optimizers, 0.01, iterations)


def rates(line: LinearSchedule) -> list[float]:
    return [optimizer.param_groups[0]["lr"] for optimizer in line.optimizers]


def test_learning_rate_goes_from_first_to_last_in_a_line() -> None:
    line = schedule(4)
    seen = [rates(line)]
    for _ in range(5):
        line.step()
        seen.append(rates(line))
    expected = [1e-4, 7.525e-5, 5.05e-5, 2.575e-5, 1e-6, 1e-6]
    assert seen == [pytest.approx([rate, rate], rel=1e-12) for rate in expected]


def test_groups_keep_the_ratio_of_their_rates() -> None:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (1e-4, 1e-3)]
    line = LinearSchedule([RAdam(groups)], 0.01, 4)
    for _ in range(4):
        line.step()
    assert [group["lr"] for group in line.optimizers[0].param_groups] == pytest.approx([1e-6, 1e-5], rel=1e-12)


def test_resumed_line_has_its_own_length() -> None:
    short, longer = schedule(4), schedule(8)
    for _ in range(4):
        short.step()
    longer.load_state_dict(short.state_dict())
    assert rates(longer) == pytest.approx([5.05e-5] * 2)


@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_average_is_the_mean_from_the_start_iteration(start: int) -> None:
    network = torch.nn.Linear(3, 1)
    snapshots: list[Tensor] = []

    def step(_: Engine, __: int) -> None:
        with torch.no_grad():
            network.weight.normal_()
        snapshots.append(network.weight.detach().clone())

    engine, averaged = Engine(step), AveragedModel(network)
    WeightAveraging(averaged, network, start).attach(engine)
    engine.run(range(5))
    expected = torch.stack(snapshots[max(start, 1) - 1 :]).mean(0)
    torch.testing.assert_close(averaged.module.weight.detach(), expected)


def interrupted(training: TinyTraining, iteration: int) -> TinyTraining:
    """End the run after an iteration, as a kill would."""
    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), training.trainer.terminate)
    return training


def assert_same(a: TinyTraining, b: TinyTraining) -> None:
    torch.testing.assert_close(a.weights(), b.weights(), rtol=0, atol=0)
    torch.testing.assert_close(a.averaged.state_dict(), b.averaged.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize(("every", "stop", "lost"), [(2, 2, 0), (2, 3, 1), (3, 5, 2)])
def test_resumed_training_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, every: int, stop: int, lost: int, lookahead: int
) -> None:
    whole = TinyTraining(7, lookahead_steps=lookahead).with_checkpoints(str(tmp_path / "whole"), every)
    whole.trainer.run()
    interrupted(
        TinyTraining(7, lookahead_steps=lookahead).with_checkpoints(str(tmp_path / "parts"), every), stop
    ).trainer.run()
    resumed = TinyTraining(7, lookahead_steps=lookahead).with_checkpoints(str(tmp_path / "parts"), every)
    resumed.trainer.run()
    assert resumed.trainer.state.iteration == 7
    assert resumed.dataset.drawn[0] == stop - lost
    assert len(resumed.dataset.drawn) == 7 - (stop - lost)
    assert_same(whole, resumed)


def test_resumed_training_may_be_longer(tmp_path: Path) -> None:
    TinyTraining(3).with_checkpoints(str(tmp_path)).trainer.run()
    resumed = TinyTraining(5).with_checkpoints(str(tmp_path))
    resumed.trainer.run()
    assert resumed.dataset.drawn == [3, 4]
    assert resumed.optimizers["fg"].param_groups[0]["lr"] == pytest.approx(1e-4)
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["iteration"] == 5


def test_scaler_may_be_switched_on_by_a_resumed_training(tmp_path: Path) -> None:
    off, on = torch.amp.GradScaler("cpu", enabled=False), torch.amp.GradScaler("cpu", init_scale=4.0)
    first, resumed = TinyTraining(2), TinyTraining(3)
    for training, scaler in ((first, off), (resumed, on)):
        parts = {"grad_scaler": scaler}
        averaged = AveragedModel(training.denoiser)
        TrainingCheckpoints(str(tmp_path), training.denoiser, averaged, parts, 1).attach(training.trainer)
        training.trainer.run()
    assert resumed.dataset.drawn == [2]
    assert on.get_scale() == 4.0


def test_finished_training_is_left_alone(tmp_path: Path) -> None:
    first = TinyTraining(3).with_checkpoints(str(tmp_path))
    first.trainer.run()
    again = TinyTraining(3).with_checkpoints(str(tmp_path))
    again.trainer.run()
    assert again.dataset.drawn == []
    assert_same(first, again)


def test_model_file_is_the_average(tmp_path: Path) -> None:
    training = TinyTraining(3).with_checkpoints(str(tmp_path))
    training.trainer.run()
    state = torch.load(tmp_path / MODEL, weights_only=True)
    torch.testing.assert_close(state, dict(training.averaged.module.state_dict()), rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, MODEL]


def resumed_with(folder: Path, **settings: object) -> TinyTraining:
    training = TinyTraining(4)
    averaged = AveragedModel(training.denoiser)
    parts = {"g": training.g}
    TrainingCheckpoints(str(folder), training.denoiser, averaged, parts, 2, settings=settings).attach(training.trainer)
    return training


def test_a_training_of_another_profile_is_not_gone_on_with(tmp_path: Path) -> None:
    resumed_with(tmp_path, profile="abdomen", boosting=True).trainer.run()
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match="--profile abdomen there and chest now") as refusal:
        resumed_with(tmp_path, profile="chest", boosting=True)
    assert "--resume False" in str(refusal.value)
    assert "boosting" not in str(refusal.value)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert resumed_with(tmp_path, profile="abdomen", boosting=True).trainer.state.iteration == 4


def test_a_checkpoint_of_an_older_bundle_tells_no_settings(tmp_path: Path) -> None:
    resumed_with(tmp_path).trainer.run()
    checkpoint = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del checkpoint["settings"]
    torch.save(checkpoint, tmp_path / CHECKPOINT)
    assert resumed_with(tmp_path, profile="chest").trainer.state.iteration == 4


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, length: int) -> None:
    resumed_with(tmp_path).trainer.run()
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged .*; --resume False begins anew"):
        resumed_with(tmp_path)
