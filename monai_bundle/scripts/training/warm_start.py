"""A warm start: F, G and H are taught with invented noise before Algorithm 1 begins.

Not in the paper, and off by default. Algorithm 1 from random weights spends its first thousands of iterations
on teaching F and G to reproduce an image at all; this needs neither discriminators nor cycles. G is taught to be what
F undoes. It must not begin as a copy of F: both would take noise away, and what equation (11) then teaches H, that
G(y) - y is noise, would be the noise of y with the wrong sign.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import Tensor, nn

from ..arguments import mistakes_in_one_line
from ..model.batch_instance_norm import clip_gates, freeze_statistics
from ..model.residual_unet import ResidualUNet
from ..model.window import HUWindow

PARTS = ("f", "g", "h")

NOISE_OF_A_CLEAN_IMAGE = 0.25
"""What the images that G is taught with hold of the noise that it has to add: images called clean are not without."""

INVERSE = "inverse"
ADDED_PER_REMOVED = 3.0
"""Clean images hold about 10 HU, of which F finds some 7: about 30 HU of G(y)."""


class PartBatch:
    """``prepare_batch`` of a MONAI trainer: input and target of F (clean), G (noisy) or H (the noise).

    Parameters
    ----------
    part : str
        'f', 'g' or 'h'.
    window : HUWindow
        The networks see the window as [-1, 1].
    """

    def __init__(self, part: str, window: HUWindow) -> None:
        if part not in PARTS:
            raise ValueError(f"part is {part!r}; there are {', '.join(PARTS)}")
        self.part, self.window = part, window

    def __call__(
        self, batchdata: Mapping[str, Tensor], device: torch.device, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Input and target, each (N, 1, H, W) in [-1, 1]."""
        x, y = (
            self.window.to_unit(batchdata[key].to(device, non_blocking=non_blocking))
            for key in (CommonKeys.IMAGE, CommonKeys.LABEL)
        )
        given, target = {"f": (x, y), "g": (y + NOISE_OF_A_CLEAN_IMAGE * (x - y), x), "h": (x, x - y)}[self.part]
        return given.contiguous(memory_format=torch.channels_last), target


class GateClipping:
    """Clip the gates of ``network`` after every iteration; to be attached before what reads the weights."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Clip during the run of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: clip_gates(self.network))


def begin_as_inverse(g: ResidualUNet, f: ResidualUNet, factor: float = ADDED_PER_REMOVED) -> None:
    """G(y) = y + ``factor`` (y - F(y)): an image that holds little noise holds more of the same, which F takes away."""
    g.load_state_dict(f.state_dict())
    with torch.no_grad():
        for parameter in (*g.tail.parameters(), *g.leave.parameters()):
            parameter.mul_(-factor)


@mistakes_in_one_line
def load_initial_weights(
    networks: Mapping[str, nn.Module], files: Mapping[str, str], freeze: Sequence[nn.Module] = ()
) -> None:
    """Load plain state dicts into networks of the same name; an empty file name leaves the random weights.

    A file of the whole denoiser gives the part that the name ends with (``initial_f`` the weights of F). 'inverse' in
    place of the file of ``initial_g`` is :func:`begin_as_inverse`, for the residual generator. Running statistics are
    left out where the network keeps none (G never does: it is only used in training).

    The statistics of the networks in ``freeze`` are frozen afterwards.

    Raises
    ------
    ValueError
        If a file is missing or its weights do not fit.
    """
    for name, file in files.items():
        if file == INVERSE:
            _invert(name, networks[name], networks["initial_f"])
        elif file:
            _load(name, networks[name], Path(file))
    for network in freeze:
        freeze_statistics(network)


def _invert(name: str, g: nn.Module, f: nn.Module) -> None:
    if not isinstance(g, ResidualUNet) or not isinstance(f, ResidualUNet):
        raise ValueError(f"--{name}: 'inverse' needs the residual generator; teach the paper's with --part g")
    begin_as_inverse(g, f)


def _load(name: str, network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"--{name}: {path} does not exist")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    part = name[-1] + "."
    if any(key.startswith(part) for key in weights):
        weights = {key.removeprefix(part): value for key, value in weights.items() if key.startswith(part)}
    known = network.state_dict()
    fitting = {key: value for key, value in weights.items() if key in known or "running_" not in key}
    try:
        network.load_state_dict(fitting)
    except RuntimeError as error:
        raise ValueError(f"--{name}: {path} does not fit: {error}") from error
