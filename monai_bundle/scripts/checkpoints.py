"""What a training leaves behind: a checkpoint to resume from and the weights to use."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Trainer
from torch import nn

CHECKPOINT = "checkpoint.pt"
MODEL = "model.pt"


class TrainingCheckpoints:
    """Save after every epoch, resume from the last one.

    ``checkpoint.pt`` holds every network, optimizer and counter; ``model.pt`` is the plain state dict
    of the averaged denoiser, the form that ``models/model.pt`` has. Both appear whole or not at all.

    Parameters
    ----------
    folder : str
        Where both files are written.
    denoiser, averaged : nn.Module
        The live network and its average.
    parts : mapping of str to object
        Everything else with a ``state_dict``.
    resume : bool
        Go on from ``checkpoint.pt`` where there is one.
    """

    def __init__(
        self, folder: str, denoiser: nn.Module, averaged: nn.Module, parts: Mapping[str, Any], resume: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.averaged = averaged
        self.parts = {"denoiser": denoiser, "averaged": averaged, **parts}
        self.resume = resume

    def attach(self, trainer: Trainer) -> None:
        """Load what is there, and save at the end of every epoch of ``trainer``."""
        if self.resume and (self.folder / CHECKPOINT).exists():
            self.load(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, trainer: Trainer) -> None:
        """Restore every part and the epoch."""
        checkpoint = torch.load(self.folder / CHECKPOINT, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint[name])
        trainer.state.epoch = checkpoint["epoch"]
        trainer.state.iteration = checkpoint["iteration"]
        trainer.data_loader.dataset.first = checkpoint["iteration"]

    def save(self, trainer: Trainer) -> None:
        """Write both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        counters = {"epoch": trainer.state.epoch, "iteration": trainer.state.iteration}
        write_whole({name: part.state_dict() for name, part in self.parts.items()} | counters, self.folder / CHECKPOINT)
        write_whole(self.averaged.module.state_dict(), self.folder / MODEL)


def write_whole(state: Mapping[str, Any], path: Path) -> None:
    """Write and rename, so that a reader or a killed run never sees half a file."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)
