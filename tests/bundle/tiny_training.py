"""A whole ISCL training with networks of a few weights, for tests of everything but the networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import RAdam
from torch.optim.swa_utils import AveragedModel

from monai_bundle.scripts.model.batch_instance_norm import BatchInstanceNorm2d
from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.training.averaging import WeightAveraging
from monai_bundle.scripts.training.checkpoints import TrainingCheckpoints
from monai_bundle.scripts.training.lookahead import with_lookahead
from monai_bundle.scripts.training.schedule import LinearSchedule
from monai_bundle.scripts.training.trainer import ISCLTrainer


def tiny(*, last: nn.Module | None = None) -> nn.Sequential:
    """A network with the kinds of layer of the real ones."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        BatchInstanceNorm2d(4),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(4, 1, 3, padding=1),
        last or nn.Identity(),
    )


class RandomBatches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches that depend on ``first`` and the index, as those of ``UnpairedPatches``."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.first = 0
        self.drawn: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.drawn.append(self.first + index)
        random = torch.Generator().manual_seed(self.first + index)
        noisy, clean = torch.rand(2, 2, 1, 8, 8, generator=random) * 400 - 160
        return {"noisy": noisy, "clean": clean}


@dataclass
class TinyTraining:
    """Networks, optimizers and trainer of ``iterations`` iterations."""

    iterations: int = 4
    learning_rate: float = 1e-2
    lookahead_steps: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    trainer: ISCLTrainer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.denoiser = ISCLDenoiser()
        self.denoiser.f, self.denoiser.h = tiny(last=nn.Tanh()), tiny()
        self.g, self.dx, self.dy = tiny(last=nn.Tanh()), tiny(), tiny()
        self.dataset = RandomBatches(self.iterations)
        self.optimizers = {
            "fg": self._optimizer(self.denoiser.f, self.g),
            "d": with_lookahead(self._optimizer(self.dx, self.dy), self.lookahead_steps, 0.5),
            "h": with_lookahead(self._optimizer(self.denoiser.h), self.lookahead_steps, 0.5),
        }
        self.trainer = ISCLTrainer(
            self.denoiser,
            self.g,
            self.dx,
            self.dy,
            *self.optimizers.values(),
            device="cpu",
            max_epochs=1,
            epoch_length=self.iterations,
            data_loader=torch.utils.data.DataLoader(self.dataset, batch_size=None),
            decollate=False,
            **self.options,
        )

    def _optimizer(self, *networks: nn.Module) -> RAdam:
        return RAdam([p for network in networks for p in network.parameters()], lr=self.learning_rate, eps=1e-7)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Name to network, in the paper's letters."""
        return dict(zip(("F", "G", "H", "DX", "DY"), self.trainer.networks, strict=True))

    def weights(self, names: Sequence[str] = ("F", "G", "H", "DX", "DY")) -> dict[str, list[Tensor]]:
        """Copies of all parameters."""
        return {name: [p.detach().clone() for p in self.networks[name].parameters()] for name in names}

    def with_checkpoints(self, folder: str, every: int = 2, more: dict[str, Any] | None = None) -> "TinyTraining":
        """Attach schedule, averaging from iteration 2 on, and checkpoints (of ``more`` as well), as in train.json."""
        averaged = AveragedModel(self.denoiser)
        schedule = LinearSchedule(list(self.optimizers.values()), 0.01, self.iterations)
        schedule.attach(self.trainer)
        WeightAveraging(averaged, self.denoiser, 2).attach(self.trainer)
        parts = {"g": self.g, "dx": self.dx, "dy": self.dy, **self.optimizers, "schedule": schedule, **(more or {})}
        TrainingCheckpoints(folder, self.denoiser, averaged, parts, every).attach(self.trainer)
        self.averaged, self.schedule = averaged, schedule
        return self
