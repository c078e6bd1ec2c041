"""A series that the model was not made for is not processed; a derived slice that is another's is not sent."""

from collections.abc import Sequence

import numpy as np
import pytest
from factories import ct_dataset
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from phantom import Image, anatomy, noise
from pydicom.dataset import Dataset

from iscl_node.dicom.judging.series import SeriesJudge, _confused, _distances, judge_input, sample, series_noise
from iscl_node.dicom.judging.slices import ImplausibleResultError
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.errors import QuarantineSeriesError
from iscl_node.settings import QualitySettings

LIMITS = QualitySettings().limits()
COUNT = 8
SIDE = 128


def slices(noise_hu: float, seed: int = 0) -> list[Image]:
    """Slices of a chest that differ by little more than one organ's size."""
    return [anatomy(number / COUNT, SIDE) + noise(noise_hu, seed + number, SIDE) for number in range(COUNT)]


def series(images: Sequence[Image], **overrides: object) -> list[Dataset]:
    return [
        ct_dataset(
            (image + 1024).round().astype(np.int16),
            **{"SOPInstanceUID": f"1.2.{number}", "ImagePositionPatient": [0, 0, number], **overrides},
        )
        for number, image in enumerate(images)
    ]


def judge_series(sources: Sequence[Dataset], derived: Sequence[Dataset]) -> None:
    judge = SeriesJudge()
    for source, result in zip(sources, derived, strict=True):
        judge.add(source, result, to_hu(source), to_hu(result))
    judge.end(lambda number: (to_hu(sources[number]), to_hu(derived[number])))


@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.floats(0, 40), st.integers(0, 1000), st.integers(0, COUNT - 2), st.integers(1, COUNT - 1))
@pytest.mark.fault(
    "processing", "two derived slices have their pixels exchanged, with any noise", "the reason names the slice"
)
def test_swapped_slices_are_caught_and_slices_in_order_pass(noise_hu: float, seed: int, one: int, step: int) -> None:
    other = min(one + step, COUNT - 1)
    sources, derived = series(slices(noise_hu, seed)), series(slices(0))
    judge_series(sources, derived)
    derived[one].PixelData, derived[other].PixelData = derived[other].PixelData, derived[one].PixelData
    with pytest.raises(ImplausibleResultError, match=rf"derived slice {one + 1} of 8 shows what is in source"):
        judge_series(sources, derived)


def test_swapped_slices_of_a_long_series_are_caught() -> None:
    grids = np.random.default_rng(0).normal(0, 100, (600, 32 * 32))
    derived = grids.copy()
    derived[[299, 599]] = derived[[599, 299]]
    assert list(_confused(grids, derived)) == [(299, 599), (599, 299)]
    expected = [np.sqrt(np.mean((grids - one) ** 2, axis=1)) for one in derived[:3]]
    np.testing.assert_allclose(_distances(derived[:3], grids), expected, rtol=0, atol=1e-5)


def test_slices_that_differ_by_their_noise_alone_pass() -> None:
    sources = series([anatomy(0, SIDE) + noise(40, seed, SIDE) for seed in range(4)])
    derived = series([anatomy(0, SIDE)] * 4)
    judge_series(sources, derived)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ({"ImagePositionPatient": [0, 0, 7]}, "another ImagePositionPatient than its source"),
        ({"PixelSpacing": [2, 2]}, "another PixelSpacing than its source"),
    ],
)
@pytest.mark.fault(
    "processing", "a derived slice has another position or spacing than its source", "quarantine with the attribute"
)
def test_a_slice_in_another_place_is_caught(overrides: dict[str, object], fault: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=fault):
        judge_series(series([anatomy()]), series([anatomy()], **overrides))


@pytest.mark.fault("processing", "a derived slice names another source", "quarantine with the reason")
def test_a_slice_that_names_another_source_is_caught() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.99"
    derived = series([anatomy()], SourceImageSequence=[item])
    with pytest.raises(QuarantineSeriesError, match="names another source"):
        judge_series(series([anatomy()]), derived)


@pytest.mark.parametrize("noise_hu", [0.0, 5.0, 50.0, 100.0])
def test_the_noise_of_a_standard_kernel_passes(noise_hu: float) -> None:
    judge_input(series_noise([anatomy() + noise(noise_hu, seed) for seed in range(3)]), LIMITS)


@pytest.mark.fault(
    "processing", "the source is noisier than the model was made for", "the reason names limit and noise"
)
def test_more_noise_than_the_model_was_made_for_is_told() -> None:
    with pytest.raises(ImplausibleResultError, match=r"\d+ HU of noise, .*max_noise_hu = 150"):
        judge_input(series_noise([anatomy() + noise(250, seed) for seed in range(3)]), LIMITS)


@pytest.mark.fault("processing", "the source has the noise of a sharp kernel", "the reason names limit and correlation")
def test_a_sharp_kernel_is_told() -> None:
    """White noise is nearly that of a bone kernel."""
    white = np.random.default_rng(0).normal(0, 40, anatomy().shape).astype(np.float32)
    with pytest.raises(ImplausibleResultError, match=r"correlates by -?0\.0\d\d, .*min_noise_correlation = 0\.06"):
        judge_input(series_noise([anatomy() + white]), LIMITS)


def test_one_noisy_slice_of_a_series_is_no_fault() -> None:
    judge_input(series_noise([anatomy() + noise(20, 0), anatomy() + noise(20, 1), anatomy() + noise(300, 2)]), LIMITS)


def test_without_soft_tissue_nothing_is_said() -> None:
    judge_input(series_noise([np.full((64, 64), -1000, np.float32)]), LIMITS)


@pytest.mark.parametrize(("count", "chosen"), [(0, []), (1, [0]), (3, [0, 1, 2]), (31, list(range(0, 31, 2)))])
def test_a_sample_is_spread_evenly(count: int, chosen: list[int]) -> None:
    assert sample(range(count)) == chosen
