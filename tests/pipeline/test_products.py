"""What is made of an instance, down to the stored values: where nothing is to change, nothing changes."""

import math
from contextlib import nullcontext
from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest
from factories import ct_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantom import BODY_SPACING, SIDE, anatomy, noise
from pydicom.dataset import Dataset
from scipy import ndimage

from iscl_node.denoise.denoiser import CT_RANGE_HU, Slice
from iscl_node.dicom.deriving import derived, writing
from iscl_node.dicom.judging.noise_level import noise_level_hu
from iscl_node.dicom.reading.volume import Stored, to_hu
from iscl_node.domain import ModelIdentity, QualityLimits, Site
from iscl_node.domain.strength import LEAST_STRENGTH, AutoStrength, ChosenStrength
from iscl_node.errors import QuarantineSeriesError
from iscl_node.making.products import Products, checked_strengths, derivations
from iscl_node.settings import QualitySettings

STARTED = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = ModelIdentity("arbitrary", "1", "0" * 64)
NO_LIMITS = QualityLimits(
    **{each.name: -1 if each.name.startswith("min") else math.inf for each in fields(QualityLimits)}
)
LOW, HIGH = -160.0, 240.0

pixels = arrays(np.int16, (8, 8), elements=st.integers(-1500, 3500))
noises = arrays(np.float32, (8, 8), elements=st.floats(-60, 60, width=32))
rescales = st.tuples(st.sampled_from([1, 2, 0.5]), st.sampled_from([0, -1024, 12.5]))


class Arbitrary:
    """A denoiser that takes away what it is told to, wherever."""

    model = MODEL
    window_hu = (LOW, HIGH)

    def __init__(self, noise: Slice) -> None:
        self.noise = noise

    def denoise(self, hu: Slice) -> Slice:
        return hu - self.noise


class Perfect:
    """A denoiser that knows the noise, and looks at every value."""

    model = MODEL
    window_hu = (-math.inf, math.inf)

    def __init__(self, noise: Slice) -> None:
        self.noise = noise

    def denoise(self, hu: Slice) -> Slice:
        return hu - self.noise


class Blurring(Perfect):
    """A denoiser that takes edges for noise."""

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 1), np.float32))

    def denoise(self, hu: Slice) -> Slice:
        blurred: Slice = ndimage.gaussian_filter(hu, 0.7)
        return blurred


def made(noise: Slice, *strengths: float) -> Products:
    return Products(
        Arbitrary(noise),
        derivations(MODEL, "abdomen", tuple(map(ChosenStrength, strengths)), " ISCL", "0", Site()),
        NO_LIMITS,
    )


@settings(deadline=None, max_examples=30)
@given(pixels, noises, rescales, st.floats(0, 1))
def test_stored_values_of_padding_and_with_strength_0_are_the_source_s(
    stored: np.ndarray, noise: Slice, rescale: tuple[float, float], strength: float
) -> None:
    source = ct_dataset(stored, RescaleSlope=rescale[0], RescaleIntercept=rescale[1])
    hu = to_hu(source)
    beyond = (hu < CT_RANGE_HU[0]) | (hu > CT_RANGE_HU[1])

    some, none = made(noise, strength, 0.0).made_of(source, STARTED)

    np.testing.assert_array_equal(none.pixel_array, source.pixel_array)
    np.testing.assert_array_equal(some.pixel_array[beyond], source.pixel_array[beyond])


@pytest.mark.parametrize("noise_hu", [15, 25, 60])
def test_every_dose_comes_out_at_the_target(noise_hu: float) -> None:
    """With a denoiser that finds the noise."""
    grain = noise(noise_hu, seed=0)
    source = ct_dataset(np.rint(anatomy() + grain).astype(np.int16), RescaleIntercept=0, PixelSpacing=BODY_SPACING)
    (strength,) = checked_strengths([AutoStrength(10)], [source], QualitySettings().limits())
    products = Products(Perfect(grain), derivations(MODEL, "abdomen", [strength], " ISCL", "0", Site()), NO_LIMITS)
    (derived_one,) = products.made_of(source, STARTED)
    assert noise_level_hu(to_hu(derived_one)) == pytest.approx(10, abs=1.5)


def test_thin_slices_keep_more_of_their_noise() -> None:
    image = np.rint(anatomy() + noise(40, seed=0)).astype(np.int16)
    strengths = []
    for thickness_mm in (5.0, 1.25, ""):
        source = ct_dataset(image, RescaleIntercept=0, PixelSpacing=BODY_SPACING, SliceThickness=thickness_mm)
        (strength,) = checked_strengths([AutoStrength(10)], [source], QualitySettings().limits())
        (derivation,) = derivations(MODEL, "full", [strength], " ISCL", "0", Site())
        strengths.append(derivation.chosen_strength)
    thick, thin, unknown = strengths
    assert (thick.slice_mm, thin.slice_mm, unknown.slice_mm) == (5.0, 1.25, None)
    assert thick.value == unknown.value == pytest.approx(0.75, abs=0.05)
    assert 1 - thin.value == pytest.approx(2 * (1 - thick.value), abs=2e-3)
    assert "target 20.0 HU for slices of 1.25 mm)" in thin.text


@pytest.mark.parametrize("noise_hu", [0, 8])
def test_a_series_below_the_target_is_nearly_untouched_and_passes(noise_hu: float) -> None:
    grain = noise(noise_hu, seed=0)
    source = ct_dataset(np.rint(anatomy() + grain).astype(np.int16), RescaleIntercept=0, PixelSpacing=BODY_SPACING)
    limits = QualitySettings().limits()
    (strength,) = checked_strengths([AutoStrength(10)], [source], limits)
    assert strength.value == LEAST_STRENGTH
    products = Products(Perfect(grain), derivations(MODEL, "abdomen", [strength], " ISCL", "0", Site()), limits)
    (derived_one,) = products.made_of(source, STARTED)
    change = to_hu(derived_one) - to_hu(source)
    assert float(np.abs(change).max()) <= 1 + LEAST_STRENGTH * float(np.abs(grain).max())


@pytest.mark.parametrize("noise_hu", [4, 9])
def test_a_clean_series_passes_even_with_a_denoiser_that_blurs(noise_hu: float) -> None:
    """Because little is taken from it: with the whole of what the same denoiser finds, the judge turns it down."""
    source = ct_dataset(np.rint(anatomy() + noise(noise_hu, seed=0)).astype(np.int16), RescaleIntercept=0)
    limits = QualitySettings().limits()
    for choice, passes in ((AutoStrength(10), True), (1.0, False)):
        (strength,) = checked_strengths([choice], [source], limits)
        products = Products(Blurring(), derivations(MODEL, "abdomen", [strength], " ISCL", "0", Site()), limits)
        with nullcontext() if passes else pytest.raises(QuarantineSeriesError, match="edges' contrast was removed"):
            assert len(list(products.made_of(source, STARTED))) == 1


def test_half_the_strength_removes_half() -> None:
    source = ct_dataset(np.full((8, 8), 1024, np.int16))
    whole, half = made(np.full((8, 8), 20, np.float32), 1.0, 0.5).made_of(source, STARTED)
    assert (int(whole.pixel_array[0, 0]), int(half.pixel_array[0, 0])) == (1004, 1014)


@pytest.mark.parametrize(
    ("strengths", "suffixes"),
    [((0.5,), [" ISCL"]), ((0.5, 1.0), [" ISCL 50%", " ISCL 100%"]), ((0.125, 0.55), [" ISCL 12.5%", " ISCL 55%"])],
)
def test_several_strengths_are_told_apart_by_their_suffix(strengths: tuple[float, ...], suffixes: list[str]) -> None:
    found = derivations(MODEL, "abdomen", tuple(map(ChosenStrength, strengths)), " ISCL", "0", Site())
    assert [each.suffix for each in found] == suffixes
    assert [replace(each, suffix="", strength=0) for each in found] == [replace(found[0], suffix="", strength=0)] * len(
        found
    )


def test_a_strength_that_the_noise_decides_is_told_apart_by_its_target() -> None:
    strengths = [ChosenStrength(0.6, target_noise_hu=10), ChosenStrength(0.5), ChosenStrength(0.4, target_noise_hu=14)]
    found = derivations(MODEL, "abdomen", strengths, " ISCL", "0", Site())
    assert [each.suffix for each in found] == [" ISCL 10 HU", " ISCL 50%", " ISCL 14 HU"]


def test_the_judge_sees_the_pixels_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ct_dataset(np.rint(anatomy() + noise(15, seed=0)).astype(np.int16))
    products = replace(made(np.zeros((SIDE, SIDE), np.float32), 1.0), limits=QualitySettings().limits())
    assert len(list(products.made_of(source, STARTED))) == 1

    def set_pixels(dataset: Dataset, stored: Stored) -> None:
        writing.set_pixels(dataset, stored + 10)

    monkeypatch.setattr(derived, "set_pixels", set_pixels)
    with pytest.raises(QuarantineSeriesError, match="max_hu_drift"):
        list(products.made_of(source, STARTED))
