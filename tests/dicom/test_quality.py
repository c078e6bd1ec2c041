"""A result that moved soft tissue, lost it or is not finite is not sent."""

import numpy as np
import pytest

from iscl_node.dicom.quality import judge
from iscl_node.errors import QuarantineSeriesError


def body(noise_hu: float = 0.0, seed: int = 0, side: int = 256) -> np.ndarray:
    hu = np.full((side, side), -1000.0)
    hu[20:-20, 20:-20] = -100.0  # fat, near the lower bound of the body's window
    hu[60:-60, 60:-60] = 50.0
    return (hu + np.random.default_rng(seed).normal(0, noise_hu, hu.shape)).astype(np.float32)


def test_perfect_denoising_of_a_noisy_slice_shows_no_drift() -> None:
    quality = judge(body(noise_hu=80.0), body(), max_hu_drift=2.0)
    assert quality.body_pixels == 216 * 216
    assert quality.hu_drift == pytest.approx(0, abs=2.0)  # the standard error is 80 / 216 = 0.4 HU
    assert quality.removed_noise_hu == pytest.approx(80.0, rel=0.05)


def test_identity_changes_nothing() -> None:
    quality = judge(body(20.0), body(20.0), max_hu_drift=0.0)
    assert quality.hu_drift == 0
    assert quality.removed_noise_hu == 0


@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_drift_is_quarantined(shift: float) -> None:
    with pytest.raises(QuarantineSeriesError, match=r"moved by [+-]5\.00 HU"):
        judge(body(), body() + np.float32(shift), max_hu_drift=3.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_quarantined(value: float) -> None:
    derived = body()
    derived[0, 0] = value
    with pytest.raises(QuarantineSeriesError, match="finite"):
        judge(body(), derived, max_hu_drift=3.0)


def test_lost_body_is_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError, match="are left"):
        judge(body(), np.full_like(body(), -1000.0), max_hu_drift=3.0)


def test_slice_of_air_is_not_judged() -> None:
    air = np.full((64, 64), -1000, dtype=np.float32)
    assert judge(air, air + np.float32(50), max_hu_drift=3.0).hu_drift is None
