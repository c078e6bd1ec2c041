"""How much of the noise goes: all of it in the window, nothing of objects, nothing beyond, and no step between."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantom import noise
from scipy import ndimage

from iscl_node.denoise.denoiser import (
    CT_RANGE_HU,
    FADE_HU,
    NOISE_LEVELS,
    Slice,
    WindowHU,
    blend,
    bounded_share,
    fade,
    noise_level_map,
    removable_noise,
)
from iscl_node.domain import ModelIdentity

ABDOMEN, CHEST, FULL = (-160.0, 240.0), (-400.0, 1000.0), CT_RANGE_HU
EVERYTHING = (-math.inf, math.inf)
SIDE = 96
LEVEL_HU = 20.0

hu_values = st.floats(-3024, 32767, width=32)
slices = arrays(np.float32, (12, 12), elements=hu_values)
noises = arrays(np.float32, (12, 12), elements=st.floats(-1e4, 1e4, width=32))
strengths = st.floats(0, 1)
Mask = npt.NDArray[np.bool_]


class Smoothing:
    """Blurs what it was shown, and keeps what that was: no object of a few pixels comes through it."""

    model = ModelIdentity("smoothing", "1", "0" * 64)

    def __init__(self, window_hu: WindowHU = ABDOMEN, pixels: float = 4.0) -> None:
        self.window_hu = window_hu
        self.pixels = pixels

    def denoise(self, hu: Slice) -> Slice:
        self.shown = hu
        blurred: Slice = ndimage.gaussian_filter(hu.clip(*self.window_hu), self.pixels)
        return blurred


class Subtracting(Smoothing):
    """Takes away what it is told to."""

    def __init__(self, noise_hu: Slice, window_hu: WindowHU = ABDOMEN) -> None:
        super().__init__(window_hu)
        self.noise_hu = noise_hu

    def denoise(self, hu: Slice) -> Slice:
        return hu - self.noise_hu


def image(*values: float) -> Slice:
    return np.array([values], np.float32)


def tissue(hu: float = 50, level_hu: float = LEVEL_HU, seed: int = 0) -> Slice:
    return (hu + noise(level_hu, seed, SIDE)).astype(np.float32)


def disc(radius: float, at: tuple[int, int] = (48, 48)) -> Mask:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.hypot(y - at[0], x - at[1]) < radius


@given(slices, noises, strengths)
def test_padding_and_metal_beyond_ct_s_range_never_change(source: Slice, grain: Slice, strength: float) -> None:
    beyond = (source < CT_RANGE_HU[0]) | (source > CT_RANGE_HU[1])
    for window in (ABDOMEN, FULL, EVERYTHING):
        derived = blend(source, removable_noise(Subtracting(grain, window), source), strength)
        assert derived[beyond].tobytes() == source[beyond].tobytes()


@given(slices, noises)
def test_with_strength_0_nothing_changes(source: Slice, grain: Slice) -> None:
    assert blend(source, grain, 0.0).tobytes() == source.tobytes()


@pytest.mark.parametrize("hu", [-500, -201, 281, 900])
def test_a_neighbourhood_beyond_the_fade_never_changes(hu: float) -> None:
    source = tissue(hu, level_hu=0)
    source[40:50, 40:50] += np.random.default_rng(0).uniform(-20, 0 if hu < 0 else 20, (10, 10)).astype(np.float32)
    source.clip(None if hu < 0 else hu, hu if hu < 0 else None, out=source)
    assert not removable_noise(Smoothing(), source).any()


@pytest.mark.parametrize("window", [ABDOMEN, CHEST, FULL, EVERYTHING])
def test_in_the_window_all_the_noise_is_removable(window: WindowHU) -> None:
    grain = noise(15, 0, SIDE).astype(np.float32)
    found = removable_noise(Subtracting(grain, window), 50 + grain)
    within = np.abs(grain) < NOISE_LEVELS * 14
    np.testing.assert_allclose(found[within], grain[within], rtol=1e-4, atol=1e-3)


def test_the_whole_range_has_no_fade_inside() -> None:
    grain = noise(10, 0, SIDE).astype(np.float32)
    for hu in (-970, -400, 500, 1500, 3000):
        source = (hu + grain).astype(np.float32)
        np.testing.assert_allclose(removable_noise(Subtracting(grain, FULL), source), grain, rtol=1e-3, atol=0.1)


@given(st.floats(0, 2 * FADE_HU), st.floats(0, 2 * FADE_HU))
def test_the_share_falls_away_from_the_window_on_both_sides_alike_and_without_a_step(near: float, far: float) -> None:
    near, far = sorted((near, far))
    low, high = ABDOMEN
    (shares,) = fade(image(low - near, low - far, high + near, high + far), ABDOMEN)
    assert shares[1] <= shares[0]
    assert shares[0] - shares[1] <= (far - near) / FADE_HU + 1e-5  # no steeper than the fade is long
    np.testing.assert_allclose(shares[:2], shares[2:], atol=1e-5)


def test_the_share_at_its_corners() -> None:
    values = image(-200, -180, -160, 40, 240, 260, 280)
    np.testing.assert_array_equal(fade(values, ABDOMEN), image(0, 0.5, 1, 1, 1, 0.5, 0))


@pytest.mark.parametrize(("strength", "expected"), [(0, 10.0), (0.25, 7.5), (1, 0.0)])
def test_strength_is_the_share_of_the_noise_that_is_removed(strength: float, expected: float) -> None:
    source = np.full((2, 2), 10, np.float32)
    blended = blend(source, source, strength)
    np.testing.assert_array_equal(blended, np.full((2, 2), expected, np.float32))
    assert blended.dtype == np.float32


def test_noise_that_is_no_number_stays_in_the_window() -> None:
    source = np.where(np.arange(SIDE) < 48, -1000, 0).astype(np.float32) * np.ones((SIDE, 1), np.float32)
    derived = blend(source, removable_noise(Subtracting(np.full_like(source, np.nan)), source), 1.0)
    np.testing.assert_array_equal(derived[:, :40], source[:, :40])
    assert np.isnan(derived[:, 56:]).all()


def test_what_noise_pushes_out_of_the_window_is_shown_at_its_end() -> None:
    source = tissue()
    source[20, 20], source[20, 60], source[60, 20] = -300, 400, 3000
    source[70:90, 70:90] = 900
    denoiser = Smoothing()
    removable_noise(denoiser, source)
    assert [denoiser.shown[at] for at in ((20, 20), (20, 60), (60, 20))] == [-160, 240, 240]
    assert denoiser.shown[80, 80] == 900  # of a neighbourhood beyond, nothing is decided


@pytest.mark.parametrize(("hu", "level_hu"), [(-100, 30), (-100, 50), (150, 40)])
def test_noise_leaves_no_specks(hu: float, level_hu: float) -> None:
    """Fat at -100 HU, or a contrasted kidney, of which noise leaves the window by more than the fade."""
    source = tissue(hu, level_hu)
    derived = blend(source, removable_noise(Smoothing(), source), 1.0)
    far_before, far_after = (np.abs(each - hu) > 2.5 * level_hu for each in (source, derived))
    assert far_before.mean() > 0.005
    assert far_after.mean() < far_before.mean() / 20


@pytest.mark.parametrize("window", [ABDOMEN, CHEST, FULL], ids=["abdomen", "chest", "full"])
@pytest.mark.parametrize("contrast_hu", [400, 1200, -400, -900], ids=["calcification", "clip", "fat", "air bubble"])
@pytest.mark.parametrize("radius", [0.6, 1.1, 1.6, 2.1], ids="{} pixels".format)
def test_small_objects_survive_a_network_that_loses_them(window: WindowHU, contrast_hu: float, radius: float) -> None:
    object_ = disc(radius)
    source = tissue() + np.float32(contrast_hu) * object_
    derived = blend(source, removable_noise(Smoothing(window), source), 1.0)
    np.testing.assert_array_equal(derived[object_], source[object_])  # 20 and more noise levels: not a bit of it goes


@pytest.mark.parametrize("window", [ABDOMEN, FULL], ids=["abdomen", "full"])
def test_a_stent_survives(window: WindowHU) -> None:
    """A ring of metal, one pixel thin, with holes, in a contrasted vessel."""
    ring = disc(7) & ~disc(6) & (np.indices((SIDE, SIDE)).sum(0) % 3 > 0)
    source = np.where(ring, 1500, tissue(50) + 150 * disc(6.5)).astype(np.float32)
    derived = blend(source, removable_noise(Smoothing(window), source), 1.0)
    np.testing.assert_array_equal(derived[ring], source[ring])


@pytest.mark.parametrize("edge_hu", [300, 600, 1200])
def test_an_edge_beyond_the_window_is_not_pulled_into_it(edge_hu: float) -> None:
    """Bone beside muscle, with a denoiser that can only answer within its window."""
    bone = np.arange(SIDE) >= 48
    source = (np.where(bone, edge_hu, 50) + noise(5, 0, SIDE)).astype(np.float32)
    derived = blend(source, removable_noise(Smoothing(pixels=0.5), source), 1.0)
    assert np.abs((derived - source)[:, 48:].mean(0)).max() < 1


@given(arrays(np.float32, (4, 4), elements=st.floats(-1e4, 1e4, width=32)), st.floats(0.1, 100))
def test_what_is_removed_is_bounded_by_the_noise_level(found: Slice, level_hu: float) -> None:
    removed = found * bounded_share(found, np.full_like(found, level_hu))
    assert np.abs(removed).max() <= NOISE_LEVELS * level_hu * 1.001
    left = (found - removed).ravel()
    assert (np.diff(left[np.argsort(found.ravel())]) >= -1e-2).all()  # no two pixels change their order
    assert (removed[np.abs(found) >= 2 * NOISE_LEVELS * level_hu * 1.001] == 0).all()


@pytest.mark.parametrize("level_hu", [4, 20, 80])
def test_the_level_is_the_noise_s_whatever_objects_are_in_it(level_hu: float) -> None:
    grain = noise(level_hu, 1, SIDE)
    with_object = np.where(disc(2), 2000, grain).astype(np.float32)
    level = noise_level_map(with_object, np.ones((SIDE, SIDE), bool))
    assert level.mean() == pytest.approx(level_hu, rel=0.1)
    assert level.max() < 1.5 * level_hu


def test_the_level_follows_noise_that_is_not_the_same_everywhere() -> None:
    grain = noise(10, 0, SIDE) * np.where(np.arange(SIDE) < 48, 1, 3)
    level = noise_level_map(grain.astype(np.float32), np.ones((SIDE, SIDE), bool))
    assert level[:, 15].mean() == pytest.approx(10, rel=0.2)
    assert level[:, -15].mean() == pytest.approx(30, rel=0.2)
