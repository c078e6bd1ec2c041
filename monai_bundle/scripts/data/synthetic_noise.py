"""Clean patches with invented CT noise, for a warm start of F and H."""

from collections.abc import Sequence

import numpy as np
from monai.data import Dataset
from numpy.random import Generator as Random

from .images import Slice, read_slice
from .patches import PATCH_SIZE, patches

LOWEST_STD, HIGHEST_STD = 5.0, 45.0
"""Standard deviation of the noise, HU (or grey values)."""


def ct_noise(shape: tuple[int, ...], random: Random) -> np.ndarray:
    """Normal noise with the power spectrum of filtered back-projection: f^p exp(-2 (f / f_c)^2), no zero frequency.

    The ramp of the reconstruction gives the rise (p = 1 for an ideal one), its window and the detector the fall
    (Riederer et al., Phys. Med. Biol. 23, 1978). Each image has its own
    p (0.8 to 2) and f_c (0.1 to 0.35 per pixel, around what pixels of 0.7 to 1.6 mm show).

    Parameters
    ----------
    shape : tuple of int
        (N, 1, H, W).
    random : Generator
        Source of chance.

    Returns
    -------
    ndarray
        ``shape``, float32, standard deviation 1 in each image.
    """
    frequency = np.hypot(np.fft.fftfreq(shape[2])[:, None], np.fft.rfftfreq(shape[3]))
    rise, fall = random.uniform(0.4, 1.0, (shape[0], 1, 1, 1)), random.uniform(0.1, 0.35, (shape[0], 1, 1, 1))
    spectrum = np.fft.rfft2(random.standard_normal(shape)) * frequency**rise * np.exp(-((frequency / fall) ** 2))
    noise = np.fft.irfft2(spectrum, s=shape[2:])
    return (noise / noise.std((1, 2, 3), keepdims=True)).astype(np.float32)


class SyntheticPairs(Dataset):
    """Batches of clean patches, and of the same with noise of :func:`ct_noise`.

    Each patch comes from an image of its own and has its own noise. An item is drawn from its index and the
    seed alone.

    Parameters
    ----------
    data : sequence of Slice
        The clean images; all are held in memory.
    length : int
        Number of batches.
    batch_size : int
        Patches in a batch.
    window : (float, float)
        The HU window; the noise is cut off at its ends, as that of a real image is.
    min_inside : float
        See :class:`.data.UnpairedPatches`.
    seed : int
        Decides every draw.
    """

    def __init__(
        self,
        data: Sequence[Slice],
        length: int,
        batch_size: int,
        window: tuple[float, float],
        min_inside: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(data)
        for each in data:
            if min(each.shape) < PATCH_SIZE:
                raise ValueError(f"{each.path} is smaller than a patch of {PATCH_SIZE} x {PATCH_SIZE} pixels")
        self.images = [read_slice(each) for each in data]
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.first = 0  # a resumed run goes on here
        self.window, self.min_inside = window, min_inside

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``image`` (noisy) and ``label`` (clean), each (batch_size, 1, 64, 64) float32, HU, inside the window."""
        random = np.random.default_rng([self.seed, self.first + index])
        low, high = self.window
        chosen = [self.images[number] for number in random.integers(len(self.images), size=self.batch_size)]
        label = np.concatenate([patches(image, 1, random, self.window, self.min_inside) for image in chosen])
        label = label.astype(np.float32).clip(low, high)
        deviation = np.exp(random.uniform(np.log(LOWEST_STD), np.log(HIGHEST_STD), (self.batch_size, 1, 1, 1)))
        noise = ct_noise(label.shape, random) * deviation.astype(np.float32)
        return {"image": (label + noise).clip(low, high), "label": label}
