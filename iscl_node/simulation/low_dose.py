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
back-projection; equation 33: projections as slices of the Fourier transform.
A. H. Barnett, J. Magland, L. af Klinteberg, "A parallel nonuniform fast Fourier transform library based on an
'exponential of semicircle' kernel", SIAM J Sci Comput 41 (2019) C479-C504: FINUFFT, which does both.

Approximations
--------------
* Parallel beam, one energy, no bow-tie filter, no tube current modulation, no scatter; a tilted gantry and
  coronal or sagittal reformats are projected as if they were axial slices.
* The normal-dose slice itself counts as noise-free where the mean counts are computed, and the log of the counts is
  linearised about their mean: the inserted noise has mean 0 exactly, also behind shoulders and metal.
* The mean counts vary slowly, so they are computed on a coarse image.
* No blur but the kernel's: focal spot, detector cross-talk, rotation during a view and the interpolation of a helical
  scan make a scanner's noise softer, the more the wider the field of view (a GE Revolution CT with the same kernel
  and pixels of 1 mm: mean frequency 0.19 to 0.23/mm; here 0.28/mm).
* The detector covers the diagonal of the image: the corners outside the scanner's circle receive noise too. A caller
  restores the padding there.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import finufft
import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from skimage.transform import downscale_local_mean

FloatImage: TypeAlias = npt.NDArray[np.float32]
ComplexArray: TypeAlias = npt.NDArray[np.complex64]

_COARSE_SIDE = 129
"""Pixels, at most, along the side of the coarse image that is projected."""
_ACCURACY = 1e-4
"""Relative error of the non-uniform FFT."""


@dataclass(frozen=True)
class Scanner:
    """The scanner whose noise is simulated.

    The defaults give 25 HU of noise at quarter dose in the middle of 300 mm of water, an abdomen's attenuation, with a
    mean frequency of 0.30/mm (of GE's kernel STANDARD, 0.31/mm was measured in a phantom with pixels of 0.5 mm).

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
        Views over 180 degrees; enough that the noise at the image's edge is sampled as finely as in its middle.
    kernel_cutoff : float
        Frequency at which the Hann window of the ramp reaches zero, in 1/mm: half of the contrast is left at half of
        it. 0.9 is a standard body kernel, 0.7 a soft one. What is above the Nyquist frequency of the detector
        or of the image is cut off.
    minimum_counts : float
        Floor of the mean counts, so that a starved reading has large noise but not infinite noise.
    """

    incident_photons: float = 2.2e6
    electronic_noise: float = 10.0
    water_attenuation: float = 0.02
    detector_pitch: float = 0.8
    views: int = 800
    kernel_cutoff: float = 0.9
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
    noise = sinogram_noise(integrals, dose, rng, used)
    return noise_image(noise, hu.shape, pixel_spacing_mm, used) * np.float32(1000 / used.water_attenuation)


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
    detectors = _detectors(hu.shape, pixel_spacing_mm, scanner.detector_pitch)
    frequency = _frequencies(detectors, scanner.detector_pitch, 0.5 / pixel)
    # sinc^2 stands for linear interpolation between the coarse pixels; it takes the ringing of a sharp limit away.
    weight = pixel * np.sinc(frequency * pixel) ** 2 * _from_centre(frequency, detectors, scanner.detector_pitch).conj()
    down, right = _phases(frequency, pixel, scanner.views)
    waves = finufft.nufft2d2(down, right, coarse.astype(np.complex64), isign=-1, eps=_ACCURACY, nthreads=1)
    spectrum = waves.reshape(len(frequency), scanner.views) * weight[:, np.newaxis].astype(np.complex64)
    views = irfft(spectrum, next_fast_len(detectors, real=True), axis=0) * np.float32(pixel / scanner.detector_pitch)
    return np.asarray(views[:detectors], np.float32)


def _frequencies(detectors: int, pitch: float, limit: float) -> FloatImage:
    """Frequencies of a view's discrete Fourier transform up to a limit, in 1/mm."""
    # No padding: what a circular filter carries from one end of a view to the other is far below the noise there.
    frequency = np.fft.rfftfreq(next_fast_len(detectors, real=True), pitch)
    return np.asarray(frequency[frequency <= limit], np.float32)


def _from_centre(frequency: FloatImage, detectors: int, pitch: float) -> ComplexArray:
    """Phase factors that count a view's samples from the middle element instead of the first."""
    return np.asarray(np.exp(2j * np.pi * frequency * pitch * (detectors // 2)), np.complex64)


def _phases(frequency: FloatImage, pixel_spacing_mm: float, views: int) -> tuple[FloatImage, FloatImage]:
    """Phase per pixel, down and to the right, of the wave of every frequency and view; radians, frequencies first."""
    angle = np.arange(views) * (np.pi / views)
    step = (2 * np.pi * pixel_spacing_mm) * frequency[:, np.newaxis]
    down, right = step * np.sin(-angle), step * np.cos(angle)
    return down.ravel().astype(np.float32), right.ravel().astype(np.float32)


def _coarse_square(attenuation: FloatImage) -> tuple[FloatImage, int]:
    """Bin to a square of an odd side, with the image in its centre; also the number of pixels per bin and axis."""
    longest = max(attenuation.shape)
    factor = -(-longest // _COARSE_SIDE)
    side = factor * (-(-longest // factor) | 1)
    before = [(side - length) // 2 for length in attenuation.shape]
    widths = [(first, side - length - first) for first, length in zip(before, attenuation.shape, strict=True)]
    return downscale_local_mean(np.pad(attenuation, widths), (factor, factor)).astype(np.float32), factor


def _detectors(shape: tuple[int, ...], pixel_spacing_mm: float, pitch: float) -> int:
    """Number of elements, odd, of a detector that covers the image's diagonal."""
    return 2 * int(np.ceil(np.sqrt(2) * max(shape) * pixel_spacing_mm / 2 / pitch)) + 3


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


def noise_image(sinogram: FloatImage, shape: tuple[int, ...], pixel_spacing_mm: float, scanner: Scanner) -> FloatImage:
    """Filter every view with the Hann-windowed ramp and back-project it (Kak and Slaney, equations 29 and 61).

    The image is a sum of waves, one for each view and frequency, evaluated at the pixels' centres by a non-uniform
    FFT: no interpolation between detector elements softens the noise. The ramp is exactly 0 at
    frequency 0, which for noise of mean 0 is what one wants.

    Parameters
    ----------
    sinogram : float32 array, shape (detectors, views)
        Dimensionless.
    shape : tuple of int
        Rows and columns of the image.
    pixel_spacing_mm : float
        Distance of pixel centres in mm: nothing above the image's Nyquist frequency passes.
    scanner : Scanner
        Supplies detector pitch and kernel.

    Returns
    -------
    float32 array, shape (H, W)
        Attenuation, in 1/mm.
    """
    detectors, views = sinogram.shape
    length = next_fast_len(detectors, real=True)
    frequency = _frequencies(
        detectors, scanner.detector_pitch, min(0.5 / scanner.detector_pitch, 0.5 / pixel_spacing_mm)
    )
    # Twice the positive frequencies for the negative ones, pi / views for the angle, 1 / length for the transform.
    response = (2 * np.pi / views / length) * kernel(frequency, scanner)
    response = response * _from_centre(frequency, detectors, scanner.detector_pitch)
    waves = rfft(sinogram, length, axis=0)[: len(frequency)] * response.astype(np.complex64)[:, np.newaxis]
    return _waves_at_pixels(waves.ravel(), *_phases(frequency, pixel_spacing_mm, views), shape)


def kernel(frequency: npt.NDArray[np.floating[Any]], scanner: Scanner) -> npt.NDArray[np.floating[Any]]:
    """The ramp times the Hann window, at frequencies in 1/mm; in 1/mm."""
    window = 0.5 + 0.5 * np.cos(np.pi * np.minimum(frequency / scanner.kernel_cutoff, 1))
    return np.asarray(frequency * window)


def _waves_at_pixels(waves: ComplexArray, down: FloatImage, right: FloatImage, shape: tuple[int, ...]) -> FloatImage:
    """The real part of a sum of waves, given by their phases per pixel down and to the right, around the centre."""
    # The transform counts pixels from -(n // 2); the centre of an even side lies half a pixel further on.
    rows, columns = shape
    half = 0.5 * ((1 - rows % 2) * down + (1 - columns % 2) * right)
    shifted = waves * np.exp(1j * half).astype(np.complex64)
    image = finufft.nufft2d1(down, right, shifted, (rows, columns), isign=1, eps=_ACCURACY, nthreads=1)
    return np.ascontiguousarray(image.real)
