"""What a training leaves behind: a checkpoint to resume from and the weights to use."""

import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Trainer
from torch import nn

from ..arguments import mistakes_in_one_line

CHECKPOINT = "checkpoint.pt"
MODEL = "model.pt"
_WAY_OUT = "--resume False begins anew in its place, another --output_dir beside it"


class TrainingCheckpoints:
    """Save every so many iterations and at the end, resume from the last one.

    ``checkpoint.pt`` holds every network, optimizer and the iteration; ``model.pt`` is the plain state
    dict of the averaged denoiser, the form that ``models/model.pt`` has. Both appear whole or not at all.

    Parameters
    ----------
    folder : str
        Where both files are written.
    denoiser, averaged : nn.Module
        The live network and its average.
    parts : mapping of str to object
        Everything else with a ``state_dict``; restored in this order.
    every : int
        Iterations between two checkpoints.
    every_seconds : float
        Seconds between two checkpoints, besides; 0 for none.
    resume : bool
        Go on from ``checkpoint.pt`` where there is one.
    settings : mapping of str to object, optional
        What makes another task of a training; one that was begun with others is not gone on with.
    """

    def __init__(
        self,
        folder: str,
        denoiser: nn.Module,
        averaged: nn.Module,
        parts: Mapping[str, Any],
        every: int,
        resume: bool = True,
        every_seconds: float = 0.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.averaged = averaged
        self.parts = {"denoiser": denoiser, "averaged": averaged, **parts}
        self.every = every
        self.resume = resume
        self.settings = dict(settings or {})
        self.every_seconds, self.saved_s = every_seconds, time.monotonic()

    @mistakes_in_one_line
    def attach(self, trainer: Trainer) -> None:
        """Load what is there, and save during the run of ``trainer``; to be attached after what it saves.

        Raises
        ------
        ValueError
            What is there is damaged, or of a training with other settings.
        """
        if self.resume and (self.folder / CHECKPOINT).exists():
            self.load(trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.save_if_due)

    def load(self, trainer: Trainer) -> None:
        """Restore every part and the iteration; the data go on from there. For the errors see `attach`."""
        path = self.folder / CHECKPOINT
        checkpoint = self._read(path)
        for name, part in self.parts.items():
            if checkpoint.get(name):  # the state of a scaler that was off is empty
                part.load_state_dict(checkpoint[name])
            elif name not in checkpoint:  # one of an older bundle has no best model
                trainer.logger.warning(f"{path} has no {name}, which begins anew")
        trainer.state.iteration = checkpoint["iteration"]
        trainer.data_loader.dataset.first = checkpoint["iteration"]
        trainer.logger.info(f"going on from {path}, iteration {checkpoint['iteration']} (--resume False starts anew)")

    def _read(self, path: Path) -> dict[str, Any]:
        """A checkpoint of a training with these settings; one of an older bundle does not tell any."""
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged ({type(error).__name__}); {_WAY_OUT}") from error
        earlier = checkpoint.get("settings", self.settings)
        differing = [
            f"--{name} {earlier.get(name)} there and {value} now"
            for name, value in self.settings.items()
            if earlier.get(name) != value
        ]
        if differing:
            raise ValueError(f"{path} is of a training with other settings: {', '.join(differing)}; {_WAY_OUT}")
        return checkpoint

    def save_if_due(self, trainer: Trainer) -> None:
        """Save after every ``every`` iterations and after the last, also where the training stops early."""
        iteration = trainer.state.iteration
        is_late = 0 < self.every_seconds <= time.monotonic() - self.saved_s
        is_last = iteration == trainer.state.epoch_length or trainer.should_terminate
        if iteration % self.every == 0 or is_late or is_last:
            self.save(trainer)
            self.saved_s = time.monotonic()

    def save(self, trainer: Trainer) -> None:
        """Write both files; of several processes, which all have the same, rank 0 does it."""
        if trainer.state.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        write_whole(state | {"iteration": trainer.state.iteration, "settings": self.settings}, self.folder / CHECKPOINT)
        write_whole(self.averaged.module.state_dict(), self.folder / MODEL)


def write_whole(state: Mapping[str, Any], path: Path) -> None:
    """Write and rename, so that a reader or a killed run never sees half a file."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
