"""A synthetic slice of a chest with what the judge looks at, and noise like that of filtered back-projection."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Image = npt.NDArray[np.float32]

SIDE = 192


BODY_SPACING = ["2.0", "2.0"]
"""Pixel Spacing, mm, with which :func:`anatomy` is as large as a trunk."""


def anatomy(level: float = 0.0, side: int = SIDE) -> Image:
    """Fat, muscle, an organ, lungs, vessels and a spine in air, as sharp as a scanner shows them, HU.

    ``level`` is the position along the patient, 0 to 1: organ, lungs and vessels change with it.
    """
    y, x = np.mgrid[:side, :side] / side - 0.5
    hu = np.full((side, side), -1000.0)
    hu[np.hypot(x / 0.49, y / 0.46) < 1] = -100
    hu[np.hypot(x / 0.4, y / 0.34) < 1] = 50
    hu[np.hypot((x - 0.2) / (0.15 - 0.05 * level), (y + 0.05) / 0.2) < 1] = -850
    hu[np.hypot(x + 0.18, (y + 0.05) / (1 + level)) < 0.13] = 70
    hu[np.hypot(x, y - 0.2) < 0.11] = 500
    for number in range(6):
        hu[np.hypot(x + 0.3 - 0.05 * number, y - 0.15 + 0.02 * number + 0.05 * level) < 0.012] = 180
    return ndimage.gaussian_filter(hu, 0.7).astype(np.float32)


def noise(deviation_hu: float, seed: int, side: int = SIDE) -> Image:
    """Noise with the spectrum of a standard kernel: none at frequency zero, most at about 0.2 per pixel."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    white = np.fft.rfft2(np.random.default_rng(seed).normal(size=(side, side)))
    grain = np.fft.irfft2(white * frequency**0.7 * np.exp(-((frequency / 0.3) ** 2)), s=(side, side))
    return (grain * (deviation_hu / grain.std())).astype(np.float32)
