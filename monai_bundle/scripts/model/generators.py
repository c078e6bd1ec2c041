"""The kinds of network that F and G can be."""

from torch import nn

from .networks import Generator
from .residual_unet import ResidualUNet
from .window import HUWindow

GENERATORS = ("paper", "residual")
"""The paper's, and a residual U-Net that the paper does not have; Algorithm 1 and H are the same with both."""


def new_generator(kind: str, running_statistics: bool = False, window: HUWindow | None = None) -> nn.Module:
    """F or G with random weights, which make a residual U-Net the identity.

    Parameters
    ----------
    kind : str
        'paper' or 'residual'.
    running_statistics : bool
        See :func:`.batch_instance_norm.keep_running_statistics`; the residual U-Net normalizes nothing.
    window : HUWindow, optional
        What the network will see of an image; the residual U-Net scales a wide one up.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in GENERATORS:
        raise ValueError(f"generator is {kind!r}; there are {', '.join(GENERATORS)}")
    if kind == "paper":
        return Generator(running_statistics)
    scale, shift = (window or HUWindow(-1.0, 1.0)).contrast()
    return ResidualUNet(scale=scale, shift=shift)
