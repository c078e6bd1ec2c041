"""What pixels say when the attributes say nothing."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from factories import ct_dataset, soft_tissue
from pydicom.dataset import Dataset

from iscl_node.dicom.judging.content import check_content
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError

ABDOMEN = (-160.0, 240.0)
Array = npt.NDArray[np.int16]


def head_hu(side: int = 128) -> Array:
    """A noisy head: air, a skull of 800 HU, brain."""
    y, x = np.mgrid[:side, :side] - side / 2
    radius = np.hypot(x, y) / side
    hu = np.where(radius < 0.45, np.where(radius > 0.4, 800, 30), -1000)
    return (hu + np.random.default_rng(0).normal(0, 15, hu.shape)).astype(np.int16)


def image(hu: npt.ArrayLike, **overrides: object) -> Dataset:
    return ct_dataset(np.asarray(hu, dtype=np.int16), **{"RescaleIntercept": 0, **overrides})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda hu: hu + 1024, "Rescale Intercept that was lost"),
        (lambda hu: (hu + 1024)[40:90, 40:90], "Rescale Intercept that was lost"),
        (lambda hu: hu - 1024, "far below air"),
        (lambda hu: np.clip((hu + 160) * 255.0 // 400, 0, 255), "from 0 to 255 and are cut off at both ends"),
        (
            lambda hu: np.where(hu < -500, 0, np.clip(np.abs(hu) // 2, 0, 100)),
            "from 0 to 100 and are cut off",
        ),
        (lambda hu: np.clip(hu + 1000, 0, 1023), "from 0 to 1023 and are cut off at both ends"),
    ],
)
@pytest.mark.fault(
    "processing",
    "the intercept is lost or counted twice, grey values of a window, a map without a word: by the histogram",
    "quarantine with the reason",
)
def test_another_scale_is_quarantined(make: Callable[[Array], Array], reason: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=reason):
        check_content([image(make(head_hu()))], "abdomen", ABDOMEN)


def test_a_scale_of_tiny_steps_is_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError, match="they span less than 10"):
        check_content([image(head_hu(), RescaleSlope=0.001)], "abdomen", ABDOMEN)


@pytest.mark.parametrize(
    "hu",
    [
        head_hu(),
        head_hu()[40:90, 40:90],
        head_hu()[8:20, 40:90],
        np.where(head_hu() < -900, -2000, head_hu()),
        np.clip(head_hu(), -160, 240),
        np.where(head_hu() > 700, 3071, head_hu()),
        np.where(head_hu() < -500, 0, head_hu()),
        np.full((64, 64), 40),
    ],
    ids=["head", "brain", "skull", "undeclared padding", "clipped", "metal", "background 0", "uniform"],
)
def test_a_scale_of_hounsfield_units_passes_whatever_the_field_of_view(hu: Array) -> None:
    check_content([image(hu)], "abdomen", ABDOMEN)


def test_what_is_dense_and_has_its_offset_passes() -> None:
    """A tooth, or an implant, that fills the cut-out."""
    check_content([image(head_hu()[60:70, 8:16] + 2500, RescaleIntercept=-1024)], "abdomen")


def test_padding_that_was_compressed_with_loss_passes() -> None:
    blurred = np.where(head_hu() < -900, -3024 + np.random.default_rng(0).normal(0, 60, (128, 128)), head_hu())
    check_content([image(blurred, PixelPaddingValue=-3024)], "abdomen", ABDOMEN)
    with pytest.raises(QuarantineSeriesError, match="far below air"):
        check_content([image(blurred)], "abdomen", ABDOMEN)


def air(seed: int = 0) -> Dataset:
    return image(np.random.default_rng(seed).normal(-1000, 15, (64, 64)), SOPInstanceUID=f"1.2.{seed}")


@pytest.mark.parametrize(
    ("window_hu", "reason"),
    [
        (ABDOMEN, "^nothing lies in the window of profile abdomen$"),
        ((-1100.0, 3000.0), "^nothing but air lies in the window of profile abdomen$"),
        (None, "^nothing but air lies in the window of profile abdomen$"),
    ],
)
@pytest.mark.fault(
    "processing", "a series in which nothing lies in the profile's window", "ignored with the reason; nothing is sent"
)
def test_where_nothing_would_change_nothing_is_made(window_hu: tuple[float, float] | None, reason: str) -> None:
    with pytest.raises(IgnoreSeriesError, match=reason):
        check_content([air(1), air(2)], "abdomen", window_hu)


def test_one_slice_with_something_is_enough() -> None:
    many = [air(seed) for seed in range(30)]
    many[7] = ct_dataset(soft_tissue())
    check_content(many, "abdomen", ABDOMEN)


def test_a_late_slice_goes_with_those_before_it_whatever_it_shows() -> None:
    check_content([air()], "abdomen", ABDOMEN, joins=True)


def test_padding_is_not_looked_at() -> None:
    hu = np.where(head_hu() > -500, 40, head_hu())
    with pytest.raises(IgnoreSeriesError, match="nothing lies in the window"):
        check_content([image(hu, PixelPaddingValue=40)], "abdomen", ABDOMEN)
