"""Validation during a training: which slices, when, and what becomes of the result."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from monai.handlers import ValidationHandler
from torch import nn

from ..arguments import mistakes_in_one_line
from ..data.images import Slice, find_slices, read_slice
from ..data.pairs import Pair, PairedSlices, validation_pairs
from .checkpoints import write_whole

BEST_MODEL = "best.pt"


class ValidationSlices(PairedSlices):
    """Pairs of slices, or noisy slices alone: their items have no ``label``.

    Parameters
    ----------
    data : sequence of Pair or of Slice
        What :func:`validation_data` returns; may be empty.
    limit : int, optional
        Take at most so many, spread evenly.
    """

    def _transform(self, index: int) -> dict[str, object]:
        item = self.data[index]
        if isinstance(item, Pair):
            return super()._transform(index)
        return {"image": read_slice(item).astype("float32")[None]}


@mistakes_in_one_line
def validation_data(
    validation_clean_dir: str = "", validation_noisy_dir: str = "", dataset_dir: str = "", split: str = ""
) -> Sequence[Pair] | Sequence[Slice]:
    """Noisy slices if only their folder is given, otherwise what :func:`.pairs.validation_pairs` finds.

    Raises
    ------
    ValueError
        If only the clean folder is given, or what is in the folders does not fit.
    """
    if validation_noisy_dir and not validation_clean_dir:
        return find_slices(validation_noisy_dir)
    return validation_pairs(validation_clean_dir, validation_noisy_dir, dataset_dir, split)


class IterationValidation(ValidationHandler):
    """MONAI's handler for a training that is one epoch: the evaluator's epoch is the trainer's iteration.

    Whoever logs the evaluator (MLflow, TensorBoard) then has the right place on the axis. Without anything to
    validate it does nothing.

    Parameters
    ----------
    validator : Evaluator
        What validates.
    interval : int
        Iterations between two validations.
    """

    def __init__(self, validator: Evaluator, interval: int) -> None:
        super().__init__(interval, validator, epoch_level=False)
        validator.logger.setLevel(logging.WARNING)  # it would count iterations as epochs; BestModel tells the result

    def attach(self, engine: Engine) -> None:
        """Validate every so many iterations of ``engine``."""
        if self.validator.state.epoch_length:
            super().attach(engine)

    def __call__(self, engine: Engine) -> None:
        """Validate now."""
        self.validator.run(engine.state.iteration)


class BestModel:
    """Keep the weights of the best validation, and end the training when there is no better one for long.

    ``best.pt`` is the state dict of the averaged denoiser, as ``model.pt``. The best value and its iteration
    belong into the checkpoint: a resumed run compares with the best of the whole training, not with its own.

    Parameters
    ----------
    evaluator : Evaluator
        Validates, and holds the best value of its key metric.
    averaged : nn.Module
        The averaged denoiser.
    folder : str
        Where the file is written.
    interval : int
        Iterations between two validations.
    patience : int
        So many validations in a row without a better one end the training; 0 never does.

    Raises
    ------
    ValueError
        If there is patience and nothing to validate.
    """

    @mistakes_in_one_line
    def __init__(
        self, evaluator: Evaluator, averaged: nn.Module, folder: str, interval: int, patience: int = 0
    ) -> None:
        if patience and not evaluator.state.epoch_length:
            raise ValueError("--patience needs --validation_noisy_dir: without slices there is no validation")
        self.evaluator = evaluator
        self.averaged = averaged
        self.path = Path(folder) / BEST_MODEL
        self.interval = interval
        self.patience = patience

    def attach(self, trainer: Trainer) -> None:
        """Look at every validation of ``trainer``; to be attached after the validation, before the checkpoints."""
        if self.evaluator.state.epoch_length:
            trainer.add_event_handler(Events.STARTED, self.stop_if_exhausted)
            trainer.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.update)

    def update(self, trainer: Trainer) -> None:
        """Save if the validation of this iteration is the best, stop if the best is too long ago."""
        state = self.evaluator.state
        values = ", ".join(f"{name} {value:.4g}" for name, value in state.metrics.items())
        best = f"best {state.key_metric_name} {state.best_metric:.4g} at iteration {state.best_metric_epoch}"
        trainer.logger.info(f"validation at iteration {trainer.state.iteration}: {values}; {best}")
        if state.best_metric_epoch == trainer.state.iteration and trainer.state.rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.averaged.state_dict(), self.path)
        self.stop_if_exhausted(trainer)

    def stop_if_exhausted(self, trainer: Trainer) -> None:
        """End the run if ``patience`` validations have brought nothing better."""
        best = self.evaluator.state.best_metric_epoch
        if 0 < self.patience * self.interval <= trainer.state.iteration - best and best > 0:
            trainer.logger.info(
                f"stopping early at iteration {trainer.state.iteration}: no better validation than that of iteration "
                f"{best} (--patience {self.patience})"
            )
            trainer.terminate()

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, for a checkpoint."""
        state = self.evaluator.state
        return {"metric": state.key_metric_name, "best": state.best_metric, "iteration": state.best_metric_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; values of another metric do not count."""
        if state["metric"] == self.evaluator.state.key_metric_name:
            self.evaluator.state.best_metric = state["best"]
            self.evaluator.state.best_metric_epoch = state["iteration"]
