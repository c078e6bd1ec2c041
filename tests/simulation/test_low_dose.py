"""The physics of the inserted noise, on small discs of water."""

import numpy as np
import numpy.typing as npt
import pytest

from iscl_node.simulation.low_dose import (
    Scanner,
    kernel,
    line_integrals,
    low_dose_noise,
    noise_image,
    sinogram_noise,
)
from monai_bundle.scripts.evaluation.noise_power import noise_power

SPACING_MM = 2.0
SMALL = Scanner(views=90)


def disc(shape: tuple[int, int] = (96, 96), diameter_mm: float = 160.0, hu: float = 0.0) -> npt.NDArray[np.float32]:
    """A disc of the given HU in air."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    radius = np.hypot(y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2) * SPACING_MM
    return np.where(radius < diameter_mm / 2, hu, -1000.0).astype(np.float32)


def noise_of(
    hu: npt.NDArray[np.float32], dose: float, seed: int = 0, scanner: Scanner = SMALL
) -> npt.NDArray[np.float32]:
    return low_dose_noise(hu, SPACING_MM, dose, np.random.default_rng(seed), scanner)


def core(noise: npt.NDArray[np.float32], half: int = 15) -> npt.NDArray[np.float32]:
    """The middle of the image."""
    row, column = noise.shape[0] // 2, noise.shape[1] // 2
    return noise[row - half : row + half, column - half : column + half]


def variance(hu: npt.NDArray[np.float32], dose: float, scanner: Scanner = SMALL, draws: int = 12) -> float:
    return float(np.mean([core(noise_of(hu, dose, seed, scanner)).var() for seed in range(draws)]))


def test_same_seed_gives_the_same_noise_and_another_seed_another() -> None:
    hu = disc()
    np.testing.assert_array_equal(noise_of(hu, 0.25, 7), noise_of(hu, 0.25, 7))
    assert not np.array_equal(noise_of(hu, 0.25, 7), noise_of(hu, 0.25, 8))


def test_full_dose_adds_exactly_nothing() -> None:
    assert not noise_of(disc(), 1.0).any()


@pytest.mark.parametrize("dose", [0.1, 0.5])
def test_quantum_variance_goes_as_one_minus_dose_over_dose(dose: float) -> None:
    # 12 draws of about 200 independent values each: 3% standard error of a variance; 12% is four of them.
    scanner = Scanner(views=90, electronic_noise=0.0)
    hu = disc()
    ratio = variance(hu, dose, scanner) / variance(hu, 0.25, scanner)
    assert ratio == pytest.approx(((1 - dose) / dose) / (0.75 / 0.25), rel=0.12)


@pytest.mark.parametrize("dose", [0.1, 0.5])
def test_sinogram_variance_is_that_of_the_dose_less_that_of_the_full_dose(dose: float) -> None:
    # Independent readings: the standard error of the variance of 200 000 is 0.3%.
    scanner = Scanner()
    integrals = np.full((500, 400), 7.0, np.float32)
    counts = scanner.incident_photons * np.exp(-7.0)

    def total(fraction: float) -> float:
        return float(1 / (fraction * counts) + (scanner.electronic_noise / (fraction * counts)) ** 2)

    noise = sinogram_noise(integrals, dose, np.random.default_rng(0), scanner)
    assert noise.var() == pytest.approx(total(dose) - total(1.0), rel=0.015)


def test_noise_has_no_bias() -> None:
    noise = np.mean([core(noise_of(disc(), 0.25, seed)) for seed in range(10)], axis=0)
    assert abs(noise.mean()) < 0.1


def test_starved_readings_stay_finite_and_without_bias() -> None:
    hu = disc(diameter_mm=180, hu=6000)
    noise = np.stack([core(noise_of(hu, 0.1, seed)) for seed in range(10)])
    assert np.isfinite(noise).all()
    assert abs(noise.mean()) < 4 * noise.mean(axis=(1, 2)).std() / np.sqrt(10) + 0.5


def test_noise_is_correlated_and_poor_in_low_frequencies() -> None:
    # A ramp-filtered reconstruction: neighbours are correlated, and the power rises from frequency 0.
    scanner = Scanner(views=120, kernel_cutoff=0.3)
    patches = np.stack([core(noise_of(disc(), 0.25, seed, scanner), 16) for seed in range(10)])
    assert np.corrcoef(patches[:, :, 1:].ravel(), patches[:, :, :-1].ravel())[0, 1] > 0.1
    power = (np.abs(np.fft.fft2(patches - patches.mean())) ** 2).mean(axis=0)
    assert power[0, 1] + power[1, 0] < 0.5 * (power[0, 6] + power[6, 0])


def test_noise_does_not_follow_edges() -> None:
    # The mean of many draws holds no trace of a strong insert: what is left is noise / sqrt(draws).
    hu = disc()
    hu[40:56, 40:56] = 200.0
    draws = np.stack([core(noise_of(hu, 0.25, seed)) for seed in range(16)])
    left = draws.mean(axis=0)
    assert left.std() < 1.3 * draws.std() / np.sqrt(len(draws))
    assert abs(np.corrcoef(left.ravel(), core(hu).ravel())[0, 1]) < 0.1


def test_thicker_object_is_noisier() -> None:
    assert variance(disc(diameter_mm=180), 0.25, draws=4) > 1.5 * variance(disc(diameter_mm=120), 0.25, draws=4)


def test_line_integral_through_water_is_length_times_attenuation() -> None:
    integrals = line_integrals(disc(diameter_mm=160), SPACING_MM, SMALL)
    assert integrals[integrals.shape[0] // 2].mean() == pytest.approx(160 * 0.02, rel=0.03)


def test_back_projected_line_integrals_are_the_object() -> None:
    # An object without any symmetry: turned, mirrored, shifted or scaled it would not fit.
    hu = np.full((96, 80), -1000, np.float32)
    hu[20:70, 15:60] = 0
    hu[30:44, 36:52] = 200
    seen = noise_image(line_integrals(hu, SPACING_MM, Scanner()), hu.shape, SPACING_MM, Scanner()) * 50000
    slope, _ = np.polyfit((hu + 1000).ravel(), seen.ravel(), 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert np.corrcoef(hu.ravel(), seen.ravel())[0, 1] > 0.98


def theory(dose: float, water_mm: float, limit: float, scanner: Scanner) -> tuple[float, float]:
    """Noise in HU in the middle of water, and the mean frequency of its radial power spectrum, by integrals alone."""
    counts = scanner.incident_photons * np.exp(-scanner.water_attenuation * water_mm)
    added = (1 / dose - 1) / counts + (scanner.electronic_noise / counts) ** 2 * (1 / dose**2 - 1)
    frequency = np.linspace(0, limit, 10_001)[1:]
    squared = kernel(frequency, scanner) ** 2
    area = 2 * np.trapezoid(squared, frequency) * np.pi**2 * scanner.detector_pitch / scanner.views
    power = squared / frequency
    return 1000 / scanner.water_attenuation * np.sqrt(added * area), float(np.average(frequency, weights=power))


def test_default_scanner_gives_25_hu_at_quarter_dose_in_300_mm_of_water() -> None:
    noise, frequency = theory(0.25, 300, 0.625, Scanner())
    assert noise == pytest.approx(25, abs=0.5)
    assert frequency == pytest.approx(0.304, abs=0.002)


@pytest.mark.parametrize(("spacing", "cutoff"), [(0.8, 0.9), (0.8, 0.7), (1.0, 0.9), (0.7, 1.5)])
def test_noise_and_its_spectrum_are_those_of_theory(spacing: float, cutoff: float) -> None:
    # Middle of a disc of water, 40 x 40 pixels, 16 draws: 3 % of the noise, 0.006/mm.
    scanner = Scanner(kernel_cutoff=cutoff)
    y, x = np.ogrid[:256, :256]
    hu = np.where(np.hypot(y - 127.5, x - 127.5) * spacing < 90, 0, -1000).astype(np.float32)
    draws = [low_dose_noise(hu, spacing, 0.25, np.random.default_rng(seed), scanner) for seed in range(16)]
    squares = np.stack([core(noise, 20) for noise in draws])
    noise, frequency = theory(0.25, 180, min(0.625, 0.5 / spacing), scanner)
    assert squares.std() == pytest.approx(noise, rel=0.03)
    assert noise_power(squares, spacing).mean_frequency == pytest.approx(frequency, abs=0.006)


@pytest.mark.parametrize("shape", [(64, 96), (97, 61), (33, 33), (300, 140), (1, 5)])
def test_any_shape_gives_noise_of_that_shape(shape: tuple[int, int]) -> None:
    noise = noise_of(disc(shape, diameter_mm=50), 0.25)
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert np.isfinite(noise).all()


def test_noise_reaches_the_corners() -> None:
    noise = noise_of(np.zeros((64, 64), np.float32), 0.25)
    assert noise[:6, :6].std() > 0
    assert noise[-6:, -6:].std() > 0


def test_padding_counts_as_air() -> None:
    padded = disc()
    padded[padded < -500] = -3024
    np.testing.assert_array_equal(noise_of(padded, 0.25), noise_of(disc(), 0.25))


def test_source_is_not_changed() -> None:
    hu = disc()
    noise_of(hu, 0.25)
    np.testing.assert_array_equal(hu, disc())


@pytest.mark.parametrize("dose", [0.0, -0.25, 1.01, float("nan"), float("inf")])
def test_impossible_dose_is_refused(dose: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        noise_of(disc(), dose)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_impossible_spacing_is_refused(spacing: float) -> None:
    with pytest.raises(ValueError, match="pixel spacing"):
        low_dose_noise(disc(), spacing, 0.25, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(2, 8, 8), (8,), (0, 8)])
def test_what_is_no_slice_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two axes"):
        low_dose_noise(np.zeros(shape, np.float32), 1.0, 0.25, np.random.default_rng(0))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        noise_of(np.full((8, 8), np.nan, np.float32), 0.25)


def test_description_names_the_constants() -> None:
    assert "I0=2.2e+06" in Scanner().description
    assert len(Scanner().description) < 800
