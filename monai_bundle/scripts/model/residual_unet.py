"""The second kind of generator: a residual U-Net that estimates the noise and takes it away.

Not in the paper. It costs two fifths of the paper's F and H together and sees the image without a bottleneck: beside
the way at half resolution there is one at full resolution, so that edges need not pass through a smaller image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .networks import SLOPE


class ConvolutionPair(nn.Module):
    """x + conv3(LReLU(conv3(x))), without normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.LeakyReLU(SLOPE)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x + self.second(self.activation(self.first(x)))


class ResidualUNet(nn.Module):
    """F or G: x minus the noise that a U-Net finds in it.

    Input and output (N, 1, H, W), of any height and width, in the [-1, 1] of the HU window; the output is not bounded.
    1,483,397 parameters; 0.4 G multiply-adds for 64 x 64 pixels.

    Parameters
    ----------
    fine, width : int
        Channels at full and at half resolution; a quarter and an eighth have two and three times ``width``.
    scale, shift : float
        The layers see x * scale + shift: in a wide window the noise would be too small a part of [-1, 1] to learn
        from. Loading weights sets both to what they were trained with.
    """

    def __init__(self, fine: int = 16, width: int = 48, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        wide, wider = 2 * width, 3 * width
        self.activation = nn.LeakyReLU(SLOPE)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))
        self.head = nn.Conv2d(1, fine, 3, padding=1)
        self.enter = nn.Conv2d(4, width, 3, padding=1)
        self.down0 = nn.Conv2d(fine, width, 4, stride=2, padding=1)
        self.in1, self.down1 = _pairs(width, 2), nn.Conv2d(width, wide, 2, stride=2)
        self.in2, self.down2 = _pairs(wide, 1), nn.Conv2d(wide, wider, 2, stride=2)
        self.middle = _pairs(wider, 2)
        self.up2, self.out2 = nn.ConvTranspose2d(wider, wide, 2, stride=2), _pairs(wide, 1)
        self.up1, self.out1 = nn.ConvTranspose2d(wide, width, 2, stride=2), _pairs(width, 3)
        self.leave = nn.Conv2d(width, 4, 3, padding=1)
        self.up0 = nn.Conv2d(width, 4 * fine, 3, padding=1)
        self.join = nn.Conv2d(2 * fine, fine, 3, padding=1)
        self.tail = nn.Conv2d(fine, 1, 3, padding=1)
        self.apply(_initialize)
        for last in (self.tail, self.leave):
            nn.init.zeros_(last.weight)  # an untrained one changes nothing

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) to the same shape, without its noise."""
        return x - self.noise(x)

    def noise(self, x: Tensor) -> Tensor:
        """The noise of x, (N, 1, H, W)."""
        height, width = x.shape[2], x.shape[3]
        x = functional.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")  # the size is halved three times
        fine, entered = self._enter(x * self.scale + self.shift)
        half = self.in1(entered + self.down0(fine.to(self.down0.weight.dtype)))
        quarter = self.in2(self.down1(half))
        quarter = self.out2(quarter + self.up2(self.middle(self.down2(quarter))))
        half = self.out1(half + self.up1(quarter))
        joined = self.join(torch.cat([fine.to(half.dtype), functional.pixel_shuffle(self.up0(half), 2)], 1))
        found = functional.pixel_shuffle(self.leave(half), 2) + self.tail(self.activation(joined))
        return found.to(x.dtype)[:, :, :height, :width] / self.scale

    def _enter(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What full resolution and what half resolution begins with."""
        if torch.jit.is_scripting():
            return self._first_layers(z)
        # In a wide window bfloat16 would round the image to steps of 4 HU: the first layers see all digits.
        with torch.autocast(z.device.type, enabled=False):
            return self._first_layers(z)

    def _first_layers(self, z: Tensor) -> tuple[Tensor, Tensor]:
        entered = self.enter(functional.pixel_unshuffle(z, 2))
        return self.activation(self.head(z)), entered.to(self.down0.weight.dtype)


def compute_in_bfloat16(network: ResidualUNet) -> ResidualUNet:
    """Have all layers but the first ones compute in bfloat16, for inference; returns the same network."""
    for name, layer in network.named_children():
        if name not in ("head", "enter"):
            layer.to(torch.bfloat16)
    return network


def _pairs(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ConvolutionPair(channels) for _ in range(count)))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, ConvolutionPair):  # its layers come first
        nn.init.normal_(module.second.weight, std=0.01)
