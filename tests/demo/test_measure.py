"""What the demonstration measures."""

import numpy as np
import pytest

from iscl_node.demo.head_ct import HeadCt
from iscl_node.demo.measure import mean_hu, measure, noise_against


@pytest.fixture
def normal(head: HeadCt) -> np.ndarray:
    return head.volume_hu.astype(np.float32)


def noisy(normal: np.ndarray, deviation_hu: float) -> np.ndarray:
    return normal + np.random.default_rng(1).normal(0, deviation_hu, normal.shape).astype(np.float32)


def test_the_noise_is_found(normal: np.ndarray) -> None:
    assert noise_against(noisy(normal, 20), normal) == pytest.approx(20, rel=0.05)


def test_the_noise_is_not_that_of_a_moved_edge(normal: np.ndarray) -> None:
    assert noise_against(noisy(np.roll(normal, 1, axis=2), 0), np.roll(normal, 1, axis=2)) == 0
    assert noise_against(np.where(normal > 500, 0, normal), normal) == 0


def test_without_soft_tissue_there_is_no_noise_to_tell() -> None:
    air = np.full((1, 16, 16), -1000, np.float32)
    assert np.isnan(noise_against(air, air))


def test_psnr_is_that_of_its_definition() -> None:
    normal = np.zeros((2, 16, 16), np.float32)
    assert measure(normal + 4, normal).psnr_db == pytest.approx(20 * np.log10(400 / 4))


def test_what_is_outside_the_window_does_not_count() -> None:
    normal = np.full((1, 16, 16), 1000, np.float32)
    normal[0, 0, 0] = 0
    image = np.where(normal > 500, normal + 300, normal + 40)
    assert measure(image, normal).psnr_db == pytest.approx(20 * np.log10(400 / 40) + 10 * np.log10(256))


def test_a_slice_without_a_body_does_not_count(normal: np.ndarray) -> None:
    air = np.full((1, 64, 64), -1000, np.float32)
    image = noisy(normal, 10)
    alone, beside = measure(image, normal), measure(np.concatenate([image, air]), np.concatenate([normal, air]))
    assert beside.psnr_db == alone.psnr_db
    assert beside.ssim == alone.ssim
    assert np.isnan(measure(air, air).psnr_db)


def test_less_noise_is_nearer_to_the_normal_dose(normal: np.ndarray) -> None:
    worse, better = measure(noisy(normal, 20), normal), measure(noisy(normal, 10), normal)
    assert better.psnr_db > worse.psnr_db + 5
    assert better.ssim > worse.ssim


def test_the_mean_of_the_body_has_bone_and_no_air(normal: np.ndarray) -> None:
    mean = mean_hu(normal, normal)
    assert mean.tissue == pytest.approx(35, abs=0.5)
    assert mean.body == pytest.approx(normal[normal > -160].mean(), rel=1e-4)
    assert mean_hu(normal + 3, normal).body == pytest.approx(mean.body + 3, abs=1e-3)
