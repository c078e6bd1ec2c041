"""Noise of a slice, made where noise arises: in its projections.

The slice is projected (parallel beam), every reading gets Poisson and electronic noise, and the noise alone is filtered
and back-projected: it is streaky, and strongest in the middle of the body, as a scanner's is. Kernel, detector, views
and dose are drawn anew. Thick slices average noise without changing its spectrum in the plane.

Sources
-------
A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging", IEEE Press 1988, section 3.3: filtered
back-projection, here as a sum of waves (A. H. Barnett et al., SIAM J Sci Comput 41, 2019: FINUFFT).
O. Christianson et al., Am J Roentgenol 205, 2015: the global noise level.
"""

from dataclasses import dataclass

import finufft
import numpy as np
import numpy.typing as npt
from numpy.random import Generator as Random
from scipy import ndimage
from skimage.transform import downscale_local_mean, radon

COARSE_SIDE = 128
"""Pixels, at most, along the side of the image that is projected: how many photons arrive varies slowly."""

COARSE_VIEWS = 90
WATER_PER_MM = 0.02
FEWEST_PHOTONS = 20.0
SOFT_TISSUE_HU = (-30.0, 130.0)
FEWEST_PIXELS = 500
SQUARE = 9


@dataclass(frozen=True)
class Geometry:
    """A parallel beam.

    Attributes
    ----------
    spacing_mm, pitch_mm : float
        Of the image's pixels, of the detector's elements.
    views : int
        Over 180 degrees.
    """

    spacing_mm: float
    pitch_mm: float
    views: int

    @classmethod
    def draw(cls, spacing_mm: float, random: Random) -> "Geometry":
        """Another field of view (the same anatomy, smaller or larger pixels), another detector."""
        spacing = float(np.clip(spacing_mm * random.uniform(0.85, 1.15), 0.45, 1.6))
        return cls(spacing, random.uniform(0.5, 1.0) * min(1.0, spacing / 0.7), int(random.integers(540, 900)))


def noise_fields(hu: np.ndarray, spacing_mm: float, count: int, random: Random) -> npt.NDArray[np.float16]:
    """Draw fields of noise that scans of the slice could have.

    Parameters
    ----------
    hu : ndarray
        (H, W), HU.
    spacing_mm : float
        Of its pixels; 0.8 is taken where it is NaN.
    count : int
        Number of fields; they share one geometry, and each has a dose and a kernel of its own.
    random : Generator
        Source of chance.

    Returns
    -------
    ndarray
        (count, H, W), standard deviation 1 in soft tissue, or in the body where there is too little.
    """
    geometry = Geometry.draw(spacing_mm if np.isfinite(spacing_mm) else 0.8, random)
    integrals = line_integrals(hu, geometry)
    frequency = np.fft.rfftfreq(len(integrals), geometry.pitch_mm)
    frequency = frequency[frequency < 0.5 / geometry.spacing_mm]  # what the image can hold
    waves = np.stack([_waves(_reading_noise(integrals, random), frequency, geometry, random) for _ in range(count)])
    fields = _sum_of_waves(waves, frequency, geometry, hu.shape)
    region = _soft_tissue(hu)
    return (fields / fields[:, region].std(axis=1)[:, None, None]).astype(np.float16)


def line_integrals(hu: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Attenuation along every ray, (detectors, views), dimensionless; below -1000 HU is air."""
    attenuation = np.maximum(WATER_PER_MM * (1 + hu.astype(np.float64) / 1000), 0)
    factor = -(-max(hu.shape) // COARSE_SIDE)
    coarse = downscale_local_mean(attenuation, (factor, factor))
    angles = np.linspace(0, 180, COARSE_VIEWS, endpoint=False)
    projected = radon(coarse, angles, circle=False) * (factor * geometry.spacing_mm)
    elements = round(len(projected) * factor * geometry.spacing_mm / geometry.pitch_mm)
    zoom = (elements / len(projected), geometry.views / COARSE_VIEWS)
    return ndimage.zoom(projected, zoom, order=1, mode="nearest", grid_mode=True)


def _reading_noise(integrals: np.ndarray, random: Random) -> np.ndarray:
    """Noise of the line integrals at a dose that is drawn: Poisson and electronic, (detectors, views)."""
    photons = np.exp(random.uniform(np.log(5e4), np.log(3e6)))
    mean = np.maximum(photons * np.exp(-integrals), FEWEST_PHOTONS)
    electronic = random.uniform(3, 15)
    return random.standard_normal(mean.shape) * np.sqrt(1 / mean + electronic**2 / mean**2)


def _waves(readings: np.ndarray, frequency: np.ndarray, geometry: Geometry, random: Random) -> np.ndarray:
    """The filtered views as waves, (frequencies * views)."""
    spectrum = np.fft.rfft(readings, axis=0)[: len(frequency)] * kernel(frequency, geometry, random)[:, None]
    centre = np.exp(2j * np.pi * frequency * geometry.pitch_mm * (len(readings) // 2))
    return (spectrum * centre[:, None]).ravel().astype(np.complex64)


def kernel(frequency: np.ndarray, geometry: Geometry, random: Random) -> np.ndarray:
    """A reconstruction kernel, the ramp times a window: soft, standard or sharp by chance; frequencies in 1/mm."""
    kind = random.choice(["pixel", "hann", "soft", "sharp"], p=[0.25, 0.3, 0.25, 0.2])
    if kind == "pixel":  # what a reconstruction does that knows no scanner: zero at the image's limit
        window = 0.5 + 0.5 * np.cos(2 * np.pi * frequency * geometry.spacing_mm)
    elif kind == "hann":
        window = 0.5 + 0.5 * np.cos(np.pi * np.minimum(frequency / random.uniform(0.6, 1.5), 1))
    elif kind == "soft":
        window = np.exp(-((frequency / random.uniform(0.35, 0.7)) ** random.uniform(1.6, 5)))
    else:
        bump = random.uniform(0.3, 1.5) * np.exp(-(((frequency - random.uniform(0.3, 0.6)) / 0.2) ** 2))
        window = (1 + bump) * np.exp(-((frequency / random.uniform(0.6, 1.0)) ** 4))
    return frequency * window


def _sum_of_waves(waves: np.ndarray, frequency: np.ndarray, geometry: Geometry, shape: tuple[int, ...]) -> np.ndarray:
    """Back-projection: every wave, across its view's direction, at every pixel; (count, H, W)."""
    angle = np.arange(geometry.views) * (np.pi / geometry.views)
    phase = (2 * np.pi * geometry.spacing_mm) * frequency[:, None]
    points = ((phase * direction).ravel().astype(np.float32) for direction in (-np.sin(angle), np.cos(angle)))
    return finufft.nufft2d1(*points, waves, shape, isign=1, eps=1e-3, nthreads=1).real


def _soft_tissue(hu: np.ndarray) -> np.ndarray:
    """Soft tissue away from its border, or the body, or everything: (H, W) bool."""
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 3)
    soft = ndimage.binary_erosion((smooth > SOFT_TISSUE_HU[0]) & (smooth < SOFT_TISSUE_HU[1]), iterations=4)
    if soft.sum() >= FEWEST_PIXELS:
        return soft
    body = ndimage.binary_erosion(hu > -300, iterations=2)
    return body if body.any() else np.ones(hu.shape, bool)


def noise_level_hu(hu: np.ndarray) -> float:
    """The noise that a slice holds itself, HU: the most frequent standard deviation in squares of soft tissue.

    NaN where there is too little soft tissue.
    """
    values = hu.astype(np.float64) - hu.mean()
    mean = ndimage.uniform_filter(values, SQUARE)
    deviation = np.sqrt(np.maximum(ndimage.uniform_filter(values**2, SQUARE) - mean**2, 0))
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 3)
    found = deviation[ndimage.minimum_filter((smooth >= 0) & (smooth <= 100), SQUARE, mode="constant", cval=False)]
    if found.size < FEWEST_PIXELS:
        return float("nan")
    counts, edges = np.histogram(found, bins=np.arange(0, 100, 0.5))
    peak = int(ndimage.gaussian_filter1d(counts.astype(float), 2).argmax())
    return float(edges[peak] + 0.25)
