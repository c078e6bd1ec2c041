"""The strength of a series follows from its noise, once, and the target decides who its derived instances are."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscl_node.dicom.selecting.rules import check_strengths
from iscl_node.dicom.uids import INSTANCE, SERIES, derivation_number, derived_uid
from iscl_node.domain import Derivation, ModelIdentity
from iscl_node.domain.strength import (
    LEAST_STRENGTH,
    MOST_STRENGTH,
    STRENGTH_UNMEASURED,
    AutoStrength,
    ChosenStrength,
    chosen_strength,
    target_of,
)
from iscl_node.errors import ConfigurationError
from iscl_node.settings.rules import strength_choices

AUTO = Derivation(ModelIdentity("m", "1", "0" * 64), "abdomen", 0.6, " ISCL", "0", target_noise_hu=10)


@pytest.mark.parametrize(
    ("noise_hu", "expected"),
    [
        (25.0, 0.6),
        (20.0, 0.5),
        (12.0, 1 - 10 / 12),
        (10.0, LEAST_STRENGTH),
        (0.0, LEAST_STRENGTH),
        (300.0, MOST_STRENGTH),
        (None, STRENGTH_UNMEASURED),
    ],
)
def test_what_is_left_of_the_noise_is_the_target(noise_hu: float | None, expected: float) -> None:
    chosen = chosen_strength(AutoStrength(10), noise_hu)
    assert chosen.value == pytest.approx(expected, abs=1e-3)
    assert (chosen.target_noise_hu, chosen.source_noise_hu) == (10, noise_hu)


@pytest.mark.parametrize(("body_mm", "target_hu"), [(None, 10), (400, 10), (300, 10), (220, 5), (180, 4), (60, 4)])
def test_a_smaller_body_is_to_have_less_noise(body_mm: float | None, target_hu: float) -> None:
    assert target_of(10, body_mm) == pytest.approx(target_hu)
    assert chosen_strength(AutoStrength(10), 20.0, body_mm).value == pytest.approx(1 - target_hu / 20)


@pytest.mark.parametrize(
    ("slice_mm", "target_hu"),
    [(None, 10), (8, 10), (5, 10), (2.5, 10 * 2**0.5), (1.25, 20), (1, 500**0.5), (0.5, 500**0.5)],
)
def test_thin_slices_may_have_more_noise(slice_mm: float | None, target_hu: float) -> None:
    assert target_of(10, 400, slice_mm) == pytest.approx(target_hu)
    assert target_of(10, 220, slice_mm) == pytest.approx(target_hu / 2)
    chosen = chosen_strength(AutoStrength(10), 40.0, 400, slice_mm=slice_mm)
    assert chosen.value == pytest.approx(1 - target_hu / 40, abs=1e-3)


@given(st.floats(0, 500), st.floats(0, 500), st.floats(1, 50))
def test_more_noise_never_has_less_strength(one: float, other: float, target_hu: float) -> None:
    less, more = (chosen_strength(AutoStrength(target_hu), each).value for each in sorted((one, other)))
    assert 0 < less <= more < 1


def test_a_share_that_is_named_is_taken_as_it_is() -> None:
    assert chosen_strength(0.0, 50.0) == ChosenStrength(0.0, None, 50.0)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (ChosenStrength(1.0), "strength 1"),
        (ChosenStrength(0.6, 10, 25.04), "strength 0.6 (auto: 25.0 HU of noise, target 10 HU)"),
        (
            ChosenStrength(0.8, 10, 20, 180),
            "strength 0.8 (auto: 20.0 HU of noise, target 4.0 HU for a body of 180 mm)",
        ),
        (ChosenStrength(0.5, 10, 20.0, 340.0), "strength 0.5 (auto: 20.0 HU of noise, target 10 HU)"),
        (
            ChosenStrength(0.5, 10, 40, 340, slice_mm=1.25),
            "strength 0.5 (auto: 40.0 HU of noise, target 20.0 HU for slices of 1.25 mm)",
        ),
        (
            ChosenStrength(0.75, 10, 40, 220, slice_mm=1.25),
            "strength 0.75 (auto: 40.0 HU of noise, target 10.0 HU for slices of 1.25 mm in a body of 220 mm)",
        ),
        (ChosenStrength(0.5, 7), "strength 0.5 (auto: noise not measurable, target 7 HU)"),
    ],
)
def test_a_strength_says_how_it_was_chosen(chosen: ChosenStrength, text: str) -> None:
    assert chosen.text == text


def test_a_strength_that_the_noise_decides_has_the_identity_of_its_target() -> None:
    """Or a slice that arrives late, alone, would make a derived series of its own."""
    late = replace(AUTO, strength=0.7, source_noise_hu=33.0)
    for role in (SERIES, INSTANCE):
        assert derived_uid("1.2", AUTO, role) == derived_uid("1.2", late, role)
        for other in (replace(AUTO, target_noise_hu=14), replace(AUTO, target_noise_hu=None)):
            assert derived_uid("1.2", AUTO, role) != derived_uid("1.2", other, role)
    assert derivation_number("1.2", AUTO, 250) == derivation_number("1.2", late, 250)


@given(st.lists(st.integers(5, 28), min_size=2, max_size=2, unique=True), st.sampled_from([125, 250]))
def test_targets_have_numbers_of_their_own(targets_hu: list[int], count: int) -> None:
    auto = {derivation_number("1.2", replace(AUTO, target_noise_hu=each), count) for each in targets_hu}
    shares = {
        derivation_number("1.2", replace(AUTO, target_noise_hu=None, strength=each / 100), count) for each in range(101)
    }
    assert len(auto) == 2
    assert not auto & shares


def test_targets_that_share_a_series_number_are_refused() -> None:
    check_strengths([AutoStrength(10), AutoStrength(14), 0.1])
    with pytest.raises(ConfigurationError, match=r"auto \(10 HU\) and auto \(10.2 HU\) .* same Series Number"):
        check_strengths([AutoStrength(10), AutoStrength(10.2)])


def test_words_are_strengths() -> None:
    choices = strength_choices(["auto", "mild", "standard", "strong", "0.5", "1"], 12)
    assert choices == (*map(AutoStrength, (12, 14, 10, 7)), 0.5, 1.0)


@pytest.mark.parametrize(
    ("words", "target_hu"), [(["much"], 10), (["1.1"], 10), (["nan"], 10), (["auto"], 0), (["auto"], float("nan"))]
)
def test_words_that_are_no_strength_are_refused(words: list[str], target_hu: float) -> None:
    with pytest.raises(ConfigurationError, match="auto, mild, standard, strong or a number from 0 to 1"):
        strength_choices(words, target_hu)
