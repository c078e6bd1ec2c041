"""Noise of a lower dose, made from a normal-dose slice: project, draw counts, back-project the noise alone.

The slice is turned into attenuation and projected (parallel beam); the mean counts of each detector reading follow
from Beer's law, the noise from their Poisson and electronic statistics. Only the noise is filtered and
back-projected, and it is added to the slice, so that the anatomy stays untouched to the last bit and the noise is
as streaky and correlated as a scanner's. What is inserted is the part of the noise a normal-dose slice does not
hold yet.

Sources
-------
L. Yu, M. Shiung, D. Jondal, C. H. McCollough, "Development and validation of a practical lower-dose-simulation tool
for optimizing computed tomography scan protocols", J Comput Assist Tomogr 36 (2012) 477-487: the variance to insert.
A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging", IEEE Press 1988, section 3.3: filtered
back-projection.

Approximations
--------------
* Parallel beam, one energy, no bow-tie filter, no tube current modulation, no scatter; a tilted gantry and
  coronal or sagittal reformats are projected as if they were axial slices.
* The normal-dose slice itself counts as noise-free where the mean counts are computed, and the log of the counts is
  linearised about their mean: the inserted noise has mean 0 exactly, also behind shoulders and metal.
* The mean counts vary slowly, so they are computed on a coarse image and few views and interpolated.
* The detector covers the diagonal of the image: the corners outside the scanner's circle receive noise too. A caller
  restores the padding there.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from skimage.transform import downscale_local_mean, iradon, radon

FloatImage: TypeAlias = npt.NDArray[np.float32]

_COARSE_SIDE = 129
"""Pixels, at most, along the side of the coarse image that is projected."""
_COARSE_VIEWS = 90


@dataclass(frozen=True)
class Scanner:
    """The scanner whose noise is simulated.

    The defaults give 5e5 photons per reading at quarter dose, and about 25 HU of noise in the soft tissue of an
    abdomen.

    Parameters
    ----------
    incident_photons : float
        Photons per detector reading without an object, at full dose.
    electronic_noise : float
        Standard deviation of the electronic noise, in counts.
    water_attenuation : float
        Linear attenuation of water, in 1/mm; 0.02 is that of about 60 keV.
    detector_pitch : float
        Width of a detector element at the isocentre, in mm.
    views : int
        Views over 180 degrees.
    kernel_cutoff : float
        Frequency at which the Hann window of the ramp reaches zero, in 1/mm: half of the contrast is left at half of
        it. 1.0 is a standard body kernel, 0.7 a soft one. Whatever lies above the Nyquist frequency of the detector
        or of the image is cut off.
    minimum_counts : float
        Floor of the mean counts, so that a starved reading has large noise but not infinite noise.
    """

    incident_photons: float = 2e6
    electronic_noise: float = 10.0
    water_attenuation: float = 0.02
    detector_pitch: float = 0.8
    views: int = 400
    kernel_cutoff: float = 1.0
    minimum_counts: float = 20.0

    @property
    def description(self) -> str:
        """Algorithm and constants in words, for the provenance of a simulated image."""
        return (
            "Poisson and electronic noise added by parallel-beam noise insertion (Yu et al. 2012): "
            f"full-dose photons per reading I0={self.incident_photons:g}, "
            f"electronic noise {self.electronic_noise:g} counts, water {self.water_attenuation:g}/mm, "
            f"detector pitch {self.detector_pitch:g} mm, {self.views} views, Hann cut-off {self.kernel_cutoff:g}/mm, "
            f"floor {self.minimum_counts:g} counts"
        )


def low_dose_noise(
    hu: FloatImage, pixel_spacing_mm: float, dose: float, rng: np.random.Generator, scanner: Scanner | None = None
) -> FloatImage:
    """Draw the noise that, added to a normal-dose slice, makes it a slice of a lower dose.

    Parameters
    ----------
    hu : float32 array, shape (H, W)
        The normal-dose slice in HU; padding counts as air.
    pixel_spacing_mm : float
        Distance of pixel centres in mm, the same along rows and columns.
    dose : float
        The dose to simulate as a fraction of the slice's own, above 0 and at most 1.
    rng : numpy.random.Generator
        Decides the noise.
    scanner : Scanner, optional
        The scanner; ``Scanner()`` by default.

    Returns
    -------
    float32 array, shape (H, W)
        The noise in HU, of mean 0; all zeros at dose 1.

    Raises
    ------
    ValueError
        If the slice, the spacing or the dose cannot be used.
    """
    check_dose(dose)
    _check_slice(hu, pixel_spacing_mm)
    if dose == 1:
        return np.zeros(hu.shape, np.float32)
    used = scanner or Scanner()
    integrals = line_integrals(hu, pixel_spacing_mm, used)
    noise = filter_views(sinogram_noise(integrals, dose, rng, used), pixel_spacing_mm, used)
    return back_project(noise, hu.shape, pixel_spacing_mm, used) * np.float32(1000 / used.water_attenuation)


def check_dose(dose: float) -> None:
    """Raise ValueError unless the dose fraction is above 0 and at most 1."""
    if not 0 < dose <= 1:
        raise ValueError(f"dose is a fraction of the source's dose, above 0 and at most 1; got {dose}")


def _check_slice(hu: npt.NDArray[Any], pixel_spacing_mm: float) -> None:
    if hu.ndim != 2 or not hu.size:
        raise ValueError(f"a slice has two axes and at least one pixel; got the shape {hu.shape}")
    if not np.isfinite(pixel_spacing_mm) or pixel_spacing_mm <= 0:
        raise ValueError(f"the pixel spacing must be above 0 mm; got {pixel_spacing_mm}")
    if not np.isfinite(hu).all():
        raise ValueError("the slice holds values that are not finite")


def line_integrals(hu: FloatImage, pixel_spacing_mm: float, scanner: Scanner) -> FloatImage:
    """Integrate the attenuation along every ray of a parallel beam.

    Parameters
    ----------
    hu : float32 array, shape (H, W)
        The slice in HU; below -1000 HU counts as air.
    pixel_spacing_mm : float
        Distance of pixel centres in mm.
    scanner : Scanner
        Supplies detector pitch, views and water's attenuation.

    Returns
    -------
    float32 array, shape (detectors, views)
        Line integrals, dimensionless.
    """
    attenuation = np.maximum(scanner.water_attenuation * (1 + hu / 1000), 0).astype(np.float32)
    coarse, factor = _coarse_square(attenuation)
    pixel = factor * pixel_spacing_mm
    half_turn = np.linspace(0, 180, _COARSE_VIEWS + 1)  # both ends, so that every view lies between two coarse ones
    sinogram = radon(coarse, theta=half_turn, circle=False) * np.float32(pixel)
    positions = detector_positions(hu.shape, pixel_spacing_mm, scanner.detector_pitch)
    rows = _linear_weights(positions / pixel + sinogram.shape[0] // 2, sinogram.shape[0])
    columns = _linear_weights(np.arange(scanner.views) * (_COARSE_VIEWS / scanner.views), sinogram.shape[1])
    return np.asarray(rows @ sinogram @ columns.T, np.float32)


def _coarse_square(attenuation: FloatImage) -> tuple[FloatImage, int]:
    """Bin to a square of an odd side, with the image in its centre; also the number of pixels per bin and axis."""
    longest = max(attenuation.shape)
    factor = -(-longest // _COARSE_SIDE)
    side = factor * (-(-longest // factor) | 1)
    before = [(side - length) // 2 for length in attenuation.shape]
    widths = [(first, side - length - first) for first, length in zip(before, attenuation.shape, strict=True)]
    return downscale_local_mean(np.pad(attenuation, widths), (factor, factor)).astype(np.float32), factor


def detector_positions(shape: tuple[int, ...], pixel_spacing_mm: float, pitch: float) -> npt.NDArray[np.floating[Any]]:
    """Positions in mm, from the centre, of the elements of a detector that covers the image's diagonal."""
    half = int(np.ceil(np.sqrt(2) * max(shape) * pixel_spacing_mm / 2 / pitch)) + 1
    return np.arange(-half, half + 1) * pitch


def _linear_weights(at: npt.NDArray[np.floating[Any]], count: int) -> FloatImage:
    """Weights of linear interpolation of ``count`` samples at fractional indices; zero outside. Shape (at, count)."""
    distance = np.abs(at[:, np.newaxis] - np.arange(count))
    return np.asarray(np.maximum(1 - distance, 0), np.float32)


def sinogram_noise(integrals: FloatImage, dose: float, rng: np.random.Generator, scanner: Scanner) -> FloatImage:
    """Draw the noise of the line integrals that the lower dose adds.

    With N the mean counts at full dose and s the electronic noise, the variance of a line integral is
    ``1/N + s^2/N^2`` at full dose and ``1/(dN) + s^2/(dN)^2`` at dose d. The Poisson part drawn at dose d is
    therefore scaled by sqrt(1 - d) and the electronic part by sqrt(1 - d^2); together they are the difference of the
    variances, which is what Yu et al. 2012 insert.

    Parameters
    ----------
    integrals : float32 array, shape (detectors, views)
        Line integrals, dimensionless.
    dose : float
        Fraction of the full dose.
    rng : numpy.random.Generator
        Decides the noise.
    scanner : Scanner
        Supplies photons, electronic noise and the floor of the counts.

    Returns
    -------
    float32 array, shape (detectors, views)
        Noise of the line integrals, dimensionless, of mean 0.
    """
    mean = np.maximum(dose * scanner.incident_photons * np.exp(-integrals), np.float32(scanner.minimum_counts))
    quantum = (rng.poisson(mean) - mean) * np.sqrt(1 - dose)
    electronic = rng.standard_normal(mean.shape, np.float32) * (scanner.electronic_noise * np.sqrt(1 - dose**2))
    return np.asarray(-(quantum + electronic) / mean, np.float32)


def filter_views(sinogram: FloatImage, pixel_spacing_mm: float, scanner: Scanner) -> FloatImage:
    """Filter every view with the Hann-windowed ramp (Kak and Slaney, equation 61; cut-off in 1/mm).

    The ramp is sampled in frequency, hence exactly 0 at frequency 0, which for noise of mean 0 is what one wants.

    Parameters
    ----------
    sinogram : float32 array, shape (detectors, views)
        Dimensionless.
    pixel_spacing_mm : float
        Distance of pixel centres in mm: nothing above the image's Nyquist frequency passes.
    scanner : Scanner
        Supplies detector pitch and cut-off.

    Returns
    -------
    float32 array, shape (detectors, views)
        Filtered views, in 1/mm.
    """
    length = 2 ** int(np.ceil(np.log2(2 * sinogram.shape[0])))
    frequency = np.fft.rfftfreq(length, scanner.detector_pitch)
    limit = min(scanner.kernel_cutoff, 0.5 / scanner.detector_pitch, 0.5 / pixel_spacing_mm)
    window = np.where(frequency <= limit, 0.5 + 0.5 * np.cos(np.pi * frequency / scanner.kernel_cutoff), 0)
    response = (frequency * window).astype(np.float32)[:, np.newaxis]
    filtered = np.fft.irfft(np.fft.rfft(sinogram, length, axis=0) * response, length, axis=0)
    return np.asarray(filtered[: sinogram.shape[0]], np.float32)


def back_project(views: FloatImage, shape: tuple[int, ...], pixel_spacing_mm: float, scanner: Scanner) -> FloatImage:
    """Back-project filtered views onto the pixels.

    Parameters
    ----------
    views : float32 array, shape (detectors, views)
        Filtered views, in 1/mm.
    shape : tuple of int
        Rows and columns of the image.
    pixel_spacing_mm : float
        Distance of pixel centres in mm.
    scanner : Scanner
        Supplies the detector pitch.

    Returns
    -------
    float32 array, shape (H, W)
        Attenuation, in 1/mm.
    """
    positions = detector_positions(shape, pixel_spacing_mm, pixel_spacing_mm)
    resampled = _linear_weights(positions / scanner.detector_pitch + views.shape[0] // 2, views.shape[0]) @ views
    side = max(shape)
    square = iradon(resampled, output_size=side, filter_name=None, circle=False)
    top, left = ((side - length) // 2 for length in shape)
    # iradon multiplies by pi / (2 views), for a ramp of 2|f|; ours is |f|.
    return np.asarray(2 * square[top : top + shape[0], left : left + shape[1]], np.float32)
