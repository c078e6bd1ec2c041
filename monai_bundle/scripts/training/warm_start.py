"""A warm start: F, G and H are taught with simulated noise before Algorithm 1 begins.

Not in the paper, and off by default. Algorithm 1 from random weights spends its first thousands of iterations
on teaching F and G to reproduce an image at all; this needs neither discriminators nor cycles. G is taught to be what
F undoes. It must not begin as a copy of F: both would take noise away, and what equation (11) then teaches H, that
G(y) - y is noise, would be the noise of y with the wrong sign.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..arguments import mistakes_in_one_line
from ..data.simulated_pairs import SimulatedPairs
from ..model.batch_instance_norm import MOMENTUM, BatchInstanceNorm2d, freeze_statistics
from ..model.residual_unet import ResidualUNet
from ..model.window import HUWindow

PARTS = ("f", "g", "h")
CALIBRATION_IMAGES = 64

NOISE_OF_A_CLEAN_IMAGE = 0.25
"""What the images that G is taught with hold of the noise that it has to add: images called clean are not without."""

INVERSE = "inverse"
ADDED_PER_REMOVED = 3.0
"""Clean images hold about 10 HU, of which F finds some 7: about 30 HU of G(y)."""


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
            _load(name, networks[name], Path(file), name[-1])
    for network in freeze:
        freeze_statistics(network)


def _invert(name: str, g: nn.Module, f: nn.Module) -> None:
    if not isinstance(g, ResidualUNet) or not isinstance(f, ResidualUNet):
        raise ValueError(f"--{name}: 'inverse' needs the residual generator; teach the paper's with --part g")
    begin_as_inverse(g, f)


def _load(name: str, network: nn.Module, path: Path, part: str) -> None:
    if not path.is_file():
        raise ValueError(f"--{name}: {path} does not exist")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if any(key.startswith(f"{part}.") for key in weights):
        weights = {key[2:]: value for key, value in weights.items() if key.startswith(f"{part}.")}
    known = network.state_dict()
    fitting = {key: value for key, value in weights.items() if key in known or "running_" not in key}
    try:
        network.load_state_dict(fitting)
    except RuntimeError as error:
        raise ValueError(f"--{name}: {path} does not fit: {error}") from error


@mistakes_in_one_line
def begin_part(
    network: nn.Module, part: str, file: str, dataset: SimulatedPairs, window: HUWindow, freeze: bool
) -> None:
    """Load the weights that a warm start begins with, or calibrate random ones, and freeze the statistics.

    Parameters
    ----------
    network : nn.Module
        What will learn.
    part : str
        'f', 'g' or 'h'.
    file : str
        Weights of this part or of the whole denoiser; empty for random ones.
    dataset : SimulatedPairs
        What it will learn from.
    window : HUWindow
        What the network sees of it.
    freeze : bool
        Whether training normalizes with the running statistics, as inference does.

    Raises
    ------
    ValueError
        If the file is missing, its weights do not fit, or there are no statistics to freeze.
    """
    if file:
        _load("initial_weights", network, Path(file), part)
    elif any(name.endswith("running_mean") for name, _ in network.named_buffers()):
        images = torch.from_numpy(dataset.noisy(CALIBRATION_IMAGES)).to(next(network.parameters()).device)
        calibrate(network, window.to_unit(images))
    if freeze:
        freeze_statistics(network)


def calibrate(network: nn.Module, images: Tensor) -> None:
    """Set the running statistics of a network without training to those of one batch, (N, 1, H, W) in [-1, 1]."""
    norms = [each for each in network.modules() if isinstance(each, BatchInstanceNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # each layer sees the batch as normalized by those before it
    with torch.no_grad():
        network.train()(images)
    for norm in norms:
        norm.momentum = MOMENTUM
