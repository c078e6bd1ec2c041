"""A result that is not the source less its noise is not sent."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from phantom import SIDE, Image, anatomy, noise
from scipy import ndimage

from iscl_node.dicom.judging.slices import ImplausibleResultError, judge, measure
from iscl_node.errors import QuarantineSeriesError
from iscl_node.settings import QualitySettings

LIMITS = QualitySettings().limits()
NOISES_HU = st.floats(3, 45)
SEEDS = st.integers(0, 10_000)
examples = settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def disc(row: float, column: float, radius: float = 8) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.hypot(y - row * SIDE, x - column * SIDE) < radius


def with_disc(image: Image, contrast_hu: float) -> Image:
    return np.where(disc(0.45, 0.3), image + np.float32(contrast_hu), image)


RUINS: dict[str, Callable[[Image], Image]] = {
    "all values 10 HU higher": lambda good: good + np.float32(10),
    "all values 10 HU lower": lambda good: good - np.float32(10),
    "soft tissue 6 HU lower": lambda good: np.where((good > -20) & (good < 120), good - np.float32(6), good),
    "blurred": lambda good: ndimage.gaussian_filter(good, 1.0),
    "blurred much": lambda good: ndimage.gaussian_filter(good, 3.0),
    "median filtered": lambda good: ndimage.median_filter(good, 7),
    "a lost region": lambda good: np.where(disc(0.5, 0.3, 12), np.float32(-1000), good),
    "an invented structure": lambda good: with_disc(good, 40),
    "a lost structure": lambda good: with_disc(good, -40),
    "broad stripes": lambda good: good + 25 * np.sign(np.sin(np.arange(SIDE, dtype=np.float32) / 6)),
    "another slice": lambda good: good - anatomy() + anatomy(level=0.5),
    "upside down": lambda good: good[::-1].copy(),
    "inverted": lambda good: -good,
    "constant": lambda good: np.full_like(good, 40),
    "one pixel to the side": lambda good: np.roll(good, 1, axis=1),
    "one value not a number": lambda good: np.where(disc(0.5, 0.5, 1), np.float32(np.nan), good),
    "one infinite value": lambda good: np.where(disc(0.5, 0.5, 1), np.float32(np.inf), good),
    "another size": lambda good: good[1:],
}


@examples
@given(NOISES_HU, SEEDS, st.floats(0, 0.9))
def test_less_noise_passes(noise_hu: float, seed: int, share_removed: float) -> None:
    grain = noise(noise_hu, seed)
    quality = judge(anatomy() + grain, anatomy() + (1 - np.float32(share_removed)) * grain, LIMITS, share_removed)
    assert quality.noise_before_hu == pytest.approx(noise_hu, rel=0.15)
    assert quality.noise_removed_hu == pytest.approx(share_removed * noise_hu, rel=0.15, abs=0.1)
    assert quality.noise_after_hu == pytest.approx((1 - share_removed) * noise_hu, rel=0.15, abs=1.5)
    assert set(quality.hu_drift) == {"lung", "fat", "soft tissue", "bone"}


@pytest.mark.parametrize("ruin", RUINS)
@examples
@given(noise_hu=st.floats(3, 40), seed=SEEDS)
@pytest.mark.fault("processing", "the model ruins a slice", "it is not let pass")
def test_a_ruined_result_is_caught(ruin: str, noise_hu: float, seed: int) -> None:
    grain = noise(noise_hu, seed)
    with pytest.raises(ImplausibleResultError):
        judge(anatomy() + grain, RUINS[ruin](anatomy() + np.float32(0.4) * grain), LIMITS)


@examples
@given(NOISES_HU, SEEDS)
def test_an_unchanged_slice_passes_at_strength_0(noise_hu: float, seed: int) -> None:
    source = anatomy() + noise(noise_hu, seed)
    quality = judge(source, source, LIMITS, strength=0.0)
    assert (quality.local_shift_hu, quality.structure_removed, quality.noise_removed_hu) == (0, None, 0)


def test_more_removed_than_the_strength_says_is_caught() -> None:
    grain = noise(30, 0)
    with pytest.raises(QuarantineSeriesError, match=r"were removed at strength 0\.2 of .*max_noise_removed = 1\.1"):
        judge(anatomy() + grain, anatomy() + np.float32(0.4) * grain, LIMITS, strength=0.2)


@pytest.mark.fault("processing", "the model adds noise", "quarantine with the reason")
def test_added_noise_is_caught() -> None:
    source = anatomy() + noise(20, 0)
    with pytest.raises(QuarantineSeriesError, match="of noise are left of"):
        judge(source, source + noise(20, 1), LIMITS)


def test_the_reason_names_every_limit_and_shows_the_slice() -> None:
    derived = np.full_like(anatomy(), 40)
    with pytest.raises(ImplausibleResultError) as caught:
        judge(anatomy(), derived, LIMITS)
    for name in ("lung moved", "bone moved", "max_hu_drift = 4", "max_local_shift_hu = 6", "max_structure_removed"):
        assert name in str(caught.value)
    assert caught.value.derived_hu is derived


def test_blur_removes_the_edges_contrast_and_noise_removal_does_not() -> None:
    source = anatomy() + noise(20, 0)
    assert measure(source, anatomy() + noise(5, 1)).structure_removed == pytest.approx(0, abs=0.03)
    assert measure(source, ndimage.gaussian_filter(source, 1.0)).structure_removed > 0.3  # type: ignore[operator]


def test_a_slice_of_air_has_nothing_to_measure() -> None:
    air = np.full((64, 64), -1000, dtype=np.float32)
    quality = judge(air, air, LIMITS)
    assert (quality.hu_drift, quality.noise_before_hu) == ({}, 0)


def test_the_steepest_places_of_noise_are_no_edges() -> None:
    """As in a small field of view in a brain: what is smoothed there is noise."""
    source = (30 + ndimage.gaussian_filter(noise(20, 1)[:128, :128], 0.8)).astype(np.float32)
    smoothed = ndimage.gaussian_filter(source, 1.5)
    assert measure(source, smoothed).structure_removed is None
