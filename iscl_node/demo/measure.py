"""How near an image is to the normal dose: PSNR, SSIM, noise, and whether the mean Hounsfield units stay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

WINDOW_HU = (-160.0, 240.0)
"""Where PSNR and SSIM look; what is outside is clipped. Their data range is its width, 400 HU."""
SOFT_TISSUE_HU = (-20.0, 100.0)
"""Brain, muscle, fluid."""
LEAST_BODY = 0.05
"""A slice with a smaller share of body pixels says nothing of image quality: clipped, it may even be equal."""
BLOCK = 8
"""Pixels along a block of the noise estimate."""


@dataclass(frozen=True)
class MeanHu:
    """Mean Hounsfield units of an image.

    Parameters
    ----------
    body : float
        Of the pixels that are above -160 HU in the normal dose: bone included, air not.
    tissue : float
        Of those that are within the window in the normal dose.
    """

    body: float
    tissue: float


@dataclass(frozen=True)
class Quality:
    """An image against the normal dose.

    Parameters
    ----------
    psnr_db, ssim : float
        Mean over the slices with enough body (`LEAST_BODY`), in the window; not a number if there is none.
    noise_hu : float
        See `noise_against`.
    mean : MeanHu
        See there.
    """

    psnr_db: float
    ssim: float
    noise_hu: float
    mean: MeanHu


def measure(image_hu: Volume, normal_hu: Volume) -> Quality:
    """Compare an image with the normal dose of the same slices.

    Parameters
    ----------
    image_hu, normal_hu : float32 array, shape (S, H, W)
        Hounsfield units; H and W at least 7, the side of SSIM's window.
    """
    width = WINDOW_HU[1] - WINDOW_HU[0]
    chosen = (normal_hu > WINDOW_HU[0]).mean(axis=(1, 2)) >= LEAST_BODY
    pairs = list(zip(_windowed(normal_hu[chosen]), _windowed(image_hu[chosen]), strict=True))
    return Quality(
        _average([peak_signal_noise_ratio(*pair, data_range=width) for pair in pairs]),
        _average([structural_similarity(*pair, data_range=width) for pair in pairs]),
        noise_against(image_hu, normal_hu),
        mean_hu(image_hu, normal_hu),
    )


def mean_hu(image_hu: Volume, normal_hu: Volume) -> MeanHu:
    """Mean Hounsfield units of an image in the body of the normal dose; both of shape (S, H, W)."""
    above = normal_hu > WINDOW_HU[0]
    return MeanHu(_mean(image_hu, above), _mean(image_hu, above & (normal_hu <= WINDOW_HU[1])))


def noise_against(image_hu: Volume, normal_hu: Volume) -> float:
    """Estimate the noise: the median, over blocks of soft tissue, of the standard deviation of the difference.

    A block counts when all its 8 x 8 pixels are soft tissue in the normal dose; the median leaves out blocks where
    an edge was moved. The difference holds the noise of the normal dose, too, where the image has not the same.

    Parameters
    ----------
    image_hu, normal_hu : float32 array, shape (S, H, W)
        Hounsfield units.

    Returns
    -------
    float
        HU; not a number if there is no block of soft tissue.
    """
    soft = (normal_hu >= SOFT_TISSUE_HU[0]) & (normal_hu <= SOFT_TISSUE_HU[1])
    chosen = _blocks(soft).all(axis=-1)
    if not chosen.any():
        return float("nan")
    return float(np.median(_blocks(image_hu - normal_hu)[chosen].std(axis=-1)))


def _windowed(image_hu: Volume) -> Volume:
    return np.clip(image_hu, *WINDOW_HU)


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _mean(image_hu: Volume, mask: Mask) -> float:
    return float(image_hu[mask].mean(dtype=np.float64)) if mask.any() else float("nan")


def _blocks(volume: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Cut into whole blocks: (S, H, W) to (S, H // 8, W // 8, 64); a rest at the edge is left out."""
    count, rows, columns = volume.shape[0], volume.shape[1] // BLOCK, volume.shape[2] // BLOCK
    whole = volume[:, : rows * BLOCK, : columns * BLOCK].reshape(count, rows, BLOCK, columns, BLOCK)
    return whole.transpose(0, 1, 3, 2, 4).reshape(count, rows, columns, BLOCK * BLOCK)
