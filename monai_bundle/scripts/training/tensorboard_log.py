"""What TensorBoard shows of a training."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.networks.utils import eval_mode
from monai.transforms import CenterSpatialCrop
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..model.batch_instance_norm import BatchInstanceNorm2d
from ..model.denoiser import ISCLDenoiser
from .trainer import NETWORK_NAMES

STRIP_PIXELS = 256
"""Largest side of a panel; a strip of noisy images is then about 0.6 MB."""

STRIP_TAG = "noisy | F(x) | x - H(x) | ensemble | H(x)"


class TensorBoardLog:
    """Write loss terms, learning rates, gates and a sample, as one run of TensorBoard.

    There is one writer for everything, opened when the training starts: TensorBoard reads the newest file of
    a folder only, and the writer must know where a resumed training goes on. What an interrupted run had
    written beyond its last checkpoint is then hidden, so that every curve has one value per iteration.

    Parameters
    ----------
    folder : str
        Where the event files are written.
    denoiser : ISCLDenoiser
        Denoises the sample; the averaged one, as it will be used.
    images : sequence of ndarray
        Noisy images, (H, W) in HU (8-bit: grey values); the middle one is the sample.
    interval : int
        Iterations between two values of a curve.
    image_interval : int
        Iterations between two strips.
    evaluator : Evaluator, optional
        Its metrics are curves as well; its epoch is the iteration.
    """

    writer: SummaryWriter  # from the start of the training on

    def __init__(
        self,
        folder: str,
        denoiser: ISCLDenoiser,
        images: Sequence[np.ndarray],
        interval: int,
        image_interval: int,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.folder = folder
        self.denoiser = denoiser
        self.sample = torch.as_tensor(images[len(images) // 2], dtype=torch.float32)[None, None]
        self.interval = interval
        self.image_interval = image_interval
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """Write during the run of ``engine``, an ISCLTrainer."""
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.write_scalars)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.image_interval), self.write_strip)
        engine.add_event_handler(Events.COMPLETED, self.close)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self.write_validation)

    def open(self, engine: Engine) -> None:
        """Start a file that follows on the iteration of ``engine``."""
        self.writer = SummaryWriter(self.folder, purge_step=engine.state.iteration + 1)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()

    def write_scalars(self, engine: Engine) -> None:
        """Loss terms, the learning rates of this iteration, and the gates after it."""
        rates = {
            "generators": engine.fg_optimizer,
            "discriminators": engine.d_optimizer,
            "extractor": engine.h_optimizer,
        }
        self.write("loss", engine.state.output[0], engine.state.iteration)
        self.write(
            "learning_rate",
            {name: optimizer.param_groups[0]["lr"] for name, optimizer in rates.items()},
            engine.state.iteration,
        )
        for name, network in zip(NETWORK_NAMES, engine.networks, strict=True):
            self.write(f"gates_{name}", gate_statistics(network), engine.state.iteration)

    def write_validation(self, evaluator: Evaluator) -> None:
        """The metrics of a validation."""
        self.write("validation", evaluator.state.metrics, evaluator.state.epoch)

    def write(self, group: str, values: Mapping[str, float | Tensor], iteration: int) -> None:
        """Add a value to each of the group's curves, on disk at once: a run may end any time."""
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", float(value), iteration)
        self.writer.flush()

    def write_strip(self, engine: Engine) -> None:
        """Denoise the sample and add the picture."""
        picture = strip(self.denoiser, self.sample.to(engine.state.device))
        self.writer.add_image(STRIP_TAG, picture, engine.state.iteration)


def gate_statistics(network: torch.nn.Module) -> dict[str, Tensor]:
    """Mean, minimum and maximum of the gates of Batch-Instance Normalization, 1 being batch; nothing without any."""
    found = [m.gate.detach() for m in network.modules() if isinstance(m, BatchInstanceNorm2d)]
    if not found:
        return {}
    gates = torch.cat(found)
    return {"mean": gates.mean(), "min": gates.min(), "max": gates.max()}


def strip(denoiser: ISCLDenoiser, hu: Tensor) -> Tensor:
    """Five panels side by side: x, F(x), x - H(x), the denoised image, H(x) around mid-grey.

    The whole image is denoised, as statistics depend on the field of view; its middle is shown.

    Parameters
    ----------
    denoiser : ISCLDenoiser
        What denoises.
    hu : Tensor
        (1, 1, H, W), HU.

    Returns
    -------
    Tensor
        (1, h, w) uint8, black and white being the ends of the HU window.
    """
    height, width = (side // 4 * 4 for side in hu.shape[2:])  # F halves the size twice
    hu = hu[:, :, :height, :width]
    x = denoiser.window.to_unit(hu)
    with eval_mode(denoiser):
        noise = denoiser.h(x)
        panels = [x, denoiser.f(x), x - noise, denoiser.window.to_unit(denoiser(hu)), noise]
    shown = CenterSpatialCrop(STRIP_PIXELS)(torch.cat(panels, dim=1)[0])
    return ((torch.cat(list(shown), dim=1).clip(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)[None].cpu()
