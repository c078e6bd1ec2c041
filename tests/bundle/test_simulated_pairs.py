"""Simulated scanner noise, and the pairs of patches that a warm start learns from."""

from pathlib import Path

import numpy as np
import pytest
from image_files import write_ct
from scipy import ndimage

from monai_bundle.scripts.data.images import find_slices
from monai_bundle.scripts.data.projection_noise import Geometry, line_integrals, noise_fields, noise_level_hu
from monai_bundle.scripts.data.simulated_pairs import SimulatedPairs, Source, faint_ellipses, recontrasted

WINDOW = (-160.0, 240.0)
PIXEL_MM = 1.5


def water_cylinder(side: int = 160, radius_mm: float = 90.0) -> np.ndarray:
    row, column = (np.mgrid[:side, :side] - (side - 1) / 2) * PIXEL_MM
    return np.where(np.hypot(row, column) < radius_mm, 0.0, -1000.0).astype(np.float32)


@pytest.fixture(scope="module")
def fields() -> np.ndarray:
    return noise_fields(water_cylinder(), PIXEL_MM, 6, np.random.default_rng(0)).astype(np.float32)


def test_line_integral_through_the_middle_of_water_is_its_length() -> None:
    geometry = Geometry(PIXEL_MM, 0.8, 600)
    integrals = line_integrals(water_cylinder(), geometry)
    assert integrals.shape[1] == 600
    middle = integrals[len(integrals) // 2]
    np.testing.assert_allclose(middle, 0.02 * 180, rtol=0.02)
    assert integrals[0].max() < 0.01


def test_noise_has_standard_deviation_one_in_soft_tissue_and_no_mean(fields: np.ndarray) -> None:
    inside = ndimage.binary_erosion(water_cylinder() > -500, iterations=6)
    np.testing.assert_allclose(fields[:, inside].std(1), 1, rtol=0.1)
    np.testing.assert_allclose(fields[:, inside].mean(1), 0, atol=0.05)


def test_noise_is_strongest_in_the_middle_and_has_no_low_frequencies(fields: np.ndarray) -> None:
    middle, edge = fields[:, 70:90, 70:90].std(), fields[:, 70:90, 22:42].std()
    assert middle > 1.3 * edge
    power = (np.abs(np.fft.fft2(fields[:, 48:112, 48:112])) ** 2).mean(0)[0, :33]
    assert power[1] < power[2:20].max() / 3


def test_fields_have_kernels_of_their_own_and_come_from_the_random_source_alone(fields: np.ndarray) -> None:
    again = noise_fields(water_cylinder(), PIXEL_MM, 6, np.random.default_rng(0)).astype(np.float32)
    np.testing.assert_array_equal(again, fields)
    neighbours = [np.corrcoef(each[60:100, 60:99].ravel(), each[60:100, 61:100].ravel())[0, 1] for each in fields]
    assert max(neighbours) - min(neighbours) > 0.1
    assert abs(np.corrcoef(fields[0].ravel(), fields[1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("noise_hu", [5.0, 15.0])
def test_level_of_the_noise_of_a_slice_is_found(noise_hu: float) -> None:
    image = np.full((160, 160), 50.0) + np.random.default_rng(0).normal(0, noise_hu, (160, 160))
    image[:, 100:103] += 400  # an edge
    assert noise_level_hu(image) == pytest.approx(noise_hu, rel=0.1)
    assert np.isnan(noise_level_hu(np.full((40, 40), -1000.0)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, patient in enumerate(("one", "two", "two")):
        write_ct(tmp_path / "clean" / f"{number}.dcm", number, side=96, PatientID=patient)
    return tmp_path


def pairs(folder: Path, **options: object) -> SimulatedPairs:
    fixed = {"length": 5, "batch_size": 6, "window": WINDOW, "noise_dir": str(folder / "noise"), "fields_per_slice": 2}
    return SimulatedPairs(find_slices(folder / "clean"), **fixed | options)


def test_target_is_the_noise_and_twins_differ_by_ellipses_alone(folder: Path) -> None:
    dataset = pairs(folder, twins=2)
    item = dataset[0]
    shapes = {name: value.shape for name, value in item.items()}
    assert shapes == dict.fromkeys(("image", "label", "target"), (6, 1, 80, 80)) | {"level": (6,)}
    assert all(value.dtype == np.float32 for value in item.values())
    added = item["image"] - item["label"]
    factor = item["target"][np.abs(added) > 1] / added[np.abs(added) > 1]
    assert (factor >= 0.999).all()
    assert (factor <= 2.001).all()
    first, last = slice(0, 2), slice(4, 6)
    assert (item["label"][first] != item["label"][last]).any()
    away_from_ends = (np.abs(item["image"] - 40) < 199)[first] & (np.abs(item["image"] - 40) < 199)[last]
    np.testing.assert_allclose(item["target"][first][away_from_ends], item["target"][last][away_from_ends], atol=2e-3)
    assert (item["level"][first] == item["level"][last]).all()


def test_two_draws_are_one_patch_in_other_noise_of_its_level(folder: Path) -> None:
    item = pairs(folder, twins=1, draws=2, batch_size=8, window=(-1024.0, 3071.0))[0]
    one, other = slice(4, 6), slice(6, 8)
    np.testing.assert_array_equal(item["label"][one], item["label"][other])
    noise = [(item["image"] - item["label"])[each, 0] for each in (one, other)]
    for first, second in zip(*noise, strict=True):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3
        assert 0.5 < first.std() / second.std() < 2


def test_batch_without_room_for_its_twins_and_draws_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="a batch of 6 has no room for 2 twins and 2 patches in two draws"):
        pairs(folder, twins=2, draws=2)
    with pytest.raises(ValueError, match="need --fields_per_slice 2 or more"):
        pairs(folder, draws=1, fields_per_slice=1)


def test_item_depends_on_seed_and_index_alone_and_a_resumed_run_goes_on(folder: Path) -> None:
    dataset, again = pairs(folder), pairs(folder)
    again.first = 2
    np.testing.assert_array_equal(dataset[3]["image"], again[1]["image"])
    assert (dataset[0]["image"] != dataset[1]["image"]).any()
    assert (dataset[0]["image"] != pairs(folder, seed=1)[0]["image"]).any()


def test_noise_of_another_run_is_used_again(folder: Path) -> None:
    pairs(folder)
    made = {path: path.stat().st_mtime_ns for path in (folder / "noise").iterdir()}
    assert len(made) == 3
    pairs(folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "noise").iterdir()} == made
    pairs(folder, fields_per_slice=3)
    assert len(list((folder / "noise").iterdir())) == 6


def test_several_processes_make_the_same_noise(folder: Path, tmp_path: Path) -> None:
    alone, together = pairs(folder)[0], pairs(folder, noise_dir=str(tmp_path / "other"), workers=2)[0]
    np.testing.assert_array_equal(alone["image"], together["image"])


def test_patients_are_drawn_equally_whatever_the_number_of_their_slices(folder: Path) -> None:
    dataset = pairs(folder)
    assert [len(each) for each in dataset.of_patient] == [1, 2]
    dataset.sources = [each for of_patient in dataset.of_patient for each in of_patient]
    marked = [
        [Source(each.patient, np.full((96, 96), 1000.0 * number, np.float32), each.noise_hu, each.fields)]
        for number, (each, *_) in enumerate(dataset.of_patient)
    ]
    marked[1] *= 5
    dataset.of_patient = marked
    random = np.random.default_rng(0)
    second = [dataset.patch(random).clean.mean() > 400 for _ in range(300)]
    assert 0.4 < np.mean(second) < 0.6


def test_slice_that_is_smaller_than_a_patch_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"0.dcm is smaller than a patch of 100 x 100 pixels"):
        pairs(folder, patch_size=100)


def test_ellipses_are_faint_and_contrast_changes_the_noise_with_the_image() -> None:
    random = np.random.default_rng(0)
    strongest = [np.abs(faint_ellipses(80, random)).max() for _ in range(200)]
    assert 2 < np.median(strongest) < 60
    assert max(strongest) > 100
    image = np.array([[40.0, 140.0]])
    for _ in range(20):
        changed, noise_hu = recontrasted(image, 10.0, random)
        assert changed[0, 1] - changed[0, 0] == pytest.approx(10 * noise_hu)
        assert 7 <= noise_hu <= 14


def test_noise_of_a_patch_is_drawn_from_the_whole_range_log_uniformly(folder: Path) -> None:
    dataset, random = pairs(folder), np.random.default_rng(0)
    dataset.of_patient = [
        [Source(each.patient, each.image, 0.0, np.random.default_rng(1).standard_normal((2, 96, 96)))]
        for each, *_ in dataset.of_patient
    ]
    dataset.sources = [each for of_patient in dataset.of_patient for each in of_patient]
    added = np.array([dataset.patch(random).noise.std() for _ in range(400)])
    assert 3.9 < added.min() < 5
    assert 70 < added.max() < 88
    assert np.median(added) == pytest.approx((4 * 85) ** 0.5, rel=0.2)
