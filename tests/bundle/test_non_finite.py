"""NaN or infinity ends a training at once, and what was saved before stays."""

import sys
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import TinyTraining

from monai_bundle.scripts.training.checkpoints import CHECKPOINT, MODEL
from monai_bundle.scripts.training.non_finite import NonFiniteStop

Damage = Callable[[TinyTraining], None]


def nan_in_a_term(training: TinyTraining) -> None:
    training.trainer.state.output[0]["cycle"].fill_(float("nan"))


def infinite_sum(training: TinyTraining) -> None:
    training.trainer.state.output[0]["generator"].fill_(float("inf"))


def infinite_weight(training: TinyTraining) -> None:
    with torch.no_grad():
        training.denoiser.h[0].weight[0, 0, 1, 1] = -float("inf")


def nan_in_an_image(training: TinyTraining) -> None:
    training.trainer.state.batch["clean"][0, 0, 3, 3] = float("nan")
    training.trainer.state.output[0]["d_clean"].fill_(float("nan"))


def damaged(folder: Path, damage: Damage, at: int = 3, saved_every: int = 2) -> TinyTraining:
    """A training with checkpoints into which the damage is done during iteration ``at``."""
    training = TinyTraining(6)

    def strike(engine: Engine) -> None:
        if engine.state.iteration == at:
            damage(training)

    training.trainer.add_event_handler(Events.ITERATION_COMPLETED, strike)
    NonFiniteStop(str(folder)).attach(training.trainer)
    return training.with_checkpoints(str(folder), saved_every)


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (nan_in_a_term, "loss term cycle is nan"),
        (infinite_sum, "loss generator is inf"),
        (infinite_weight, "a weight of H is inf"),
        (nan_in_an_image, "the clean images of this batch hold NaN"),
    ],
)
def test_the_cause_is_named(tmp_path: Path, damage: Damage, cause: str) -> None:
    with pytest.raises(FloatingPointError, match=rf"^iteration 3: {cause}; the last good checkpoint is kept in .*"):
        damaged(tmp_path, damage).trainer.run()


@pytest.mark.parametrize("at", [3, 4])
def test_what_was_saved_before_stays(tmp_path: Path, at: int) -> None:
    """Also at an iteration that would have been saved."""
    TinyTraining(2).with_checkpoints(str(tmp_path)).trainer.run()
    before = {name: (tmp_path / name).read_bytes() for name in (CHECKPOINT, MODEL)}
    training = damaged(tmp_path, infinite_weight, at, saved_every=4)
    with pytest.raises(FloatingPointError):
        training.trainer.run()
    assert training.trainer.state.iteration == at
    assert {name: (tmp_path / name).read_bytes() for name in (CHECKPOINT, MODEL)} == before
    assert all(torch.isfinite(weight).all() for weight in training.averaged.parameters())


def test_first_iteration_has_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="nothing was saved yet; check the images, or try a lower --learning"):
        damaged(tmp_path, nan_in_a_term, at=1).trainer.run()
    assert not list(tmp_path.iterdir())


def test_nan_that_the_computation_made_is_found(tmp_path: Path) -> None:
    """A weight of F is NaN before iteration 3: DY(F(x)) is computed first."""
    training = TinyTraining(4)
    NonFiniteStop(str(tmp_path)).attach(training.trainer)

    def poison(engine: Engine) -> None:
        if engine.state.iteration == 3:
            with torch.no_grad():
                training.denoiser.f[0].weight.fill_(float("nan"))

    training.trainer.add_event_handler(Events.ITERATION_STARTED, poison)
    with pytest.raises(FloatingPointError, match=r"^iteration 3: loss term d_clean is nan;"):
        training.trainer.run()


def test_on_the_command_line_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(monai.bundle.__file__).parent / "__main__.py"), "run"])
    with pytest.raises(SystemExit, match=r"^error: iteration 3: loss term cycle is nan; .*--learning_rate") as end:
        damaged(tmp_path, nan_in_a_term).trainer.run()
    assert "\n" not in str(end.value)


def test_a_healthy_training_goes_on(tmp_path: Path) -> None:
    training = damaged(tmp_path, lambda _: None)
    training.trainer.run()
    assert training.trainer.state.iteration == 6
