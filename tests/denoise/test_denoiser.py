"""How much of the noise goes: all of the strength in the window, nothing beyond the fade, and no step between."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iscl_node.denoise.denoiser import FADE_HU, Slice, blend, fade, removable_noise
from iscl_node.domain import ModelIdentity

WINDOW = (-160.0, 240.0)
EVERYTHING = (-math.inf, math.inf)

hu_values = st.floats(-3024, 32767, width=32)
slices = arrays(np.float32, (4, 4), elements=hu_values)
noises = arrays(np.float32, (4, 4), elements=st.floats(-1e4, 1e4, width=32))
strengths = st.floats(0, 1)


class Smoothing:
    """Gives back the mean of what it was shown; keeps what that was."""

    model = ModelIdentity("smoothing", "1", "0" * 64)
    window_hu = WINDOW

    def denoise(self, hu: Slice) -> Slice:
        self.shown = hu
        return np.full_like(hu, hu.mean())


def image(*values: float) -> Slice:
    return np.array([values], np.float32)


@given(slices, noises, strengths)
def test_beyond_the_fade_nothing_ever_changes(source: Slice, noise: Slice, strength: float) -> None:
    beyond = (source <= WINDOW[0] - FADE_HU) | (source >= WINDOW[1] + FADE_HU)
    derived = blend(source, noise, strength, WINDOW)
    assert derived[beyond].tobytes() == source[beyond].tobytes()


@given(slices, noises)
def test_with_strength_0_nothing_changes(source: Slice, noise: Slice) -> None:
    assert blend(source, noise, 0.0, WINDOW).tobytes() == source.tobytes()


@given(slices, noises, strengths)
def test_in_the_window_the_change_is_the_strength_times_the_noise(source: Slice, noise: Slice, strength: float) -> None:
    inside = (source >= WINDOW[0]) & (source <= WINDOW[1])
    derived = blend(source, noise, strength, WINDOW)
    np.testing.assert_allclose((source - derived)[inside], strength * noise[inside], rtol=1e-6, atol=1e-3)


@given(st.floats(0, 2 * FADE_HU), st.floats(0, 2 * FADE_HU))
def test_the_share_falls_away_from_the_window_on_both_sides_alike_and_without_a_step(near: float, far: float) -> None:
    near, far = sorted((near, far))
    low, high = WINDOW
    (shares,) = fade(image(low - near, low - far, high + near, high + far), WINDOW)
    assert shares[1] <= shares[0]
    assert shares[0] - shares[1] <= (far - near) / FADE_HU + 1e-5  # no steeper than the fade is long
    np.testing.assert_allclose(shares[:2], shares[2:], atol=1e-5)


def test_the_share_at_its_corners() -> None:
    values = image(-200, -180, -160, 40, 240, 260, 280)
    np.testing.assert_array_equal(fade(values, WINDOW), image(0, 0.5, 1, 1, 1, 0.5, 0))


@pytest.mark.parametrize(("strength", "expected"), [(0, 10.0), (0.25, 7.5), (1, 0.0)])
def test_strength_is_the_share_of_the_noise_that_is_removed(strength: float, expected: float) -> None:
    source = np.full((2, 2), 10, np.float32)
    blended = blend(source, source, strength, EVERYTHING)
    np.testing.assert_array_equal(blended, np.full((2, 2), expected, np.float32))
    assert blended.dtype == np.float32


def test_noise_that_is_no_number_stays_within_the_fade() -> None:
    derived = blend(image(-1000, 0), image(np.nan, np.nan), 1.0, WINDOW)
    np.testing.assert_array_equal(derived, image(-1000, np.nan))


def test_what_is_just_beyond_the_window_is_shown_at_its_end() -> None:
    denoiser, source = Smoothing(), image(-1000, -201, -200, -160, 0, 240, 280, 281)
    noise = removable_noise(denoiser, source)
    np.testing.assert_array_equal(denoiser.shown, image(-1000, -201, -160, -160, 0, 240, 240, 281))
    np.testing.assert_array_equal(noise, denoiser.shown - denoiser.shown.mean())
