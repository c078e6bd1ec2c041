"""Which images are pairs, and what an item of them holds."""

from pathlib import Path

import numpy as np
import pytest
from image_files import grey, write_ct, write_grey, write_volume

from monai_bundle.scripts.data.images import find_slices, read_slice
from monai_bundle.scripts.data.pairs import PairedSlices, validation_pairs


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders ``clean`` and ``noisy`` of five pairs: three CT slices and a volume of two."""
    clean, noisy = tmp_path / "clean", tmp_path / "noisy"
    for number in range(3):
        write_ct(clean / "L004" / f"{number}.dcm", seed=number)
        write_ct(noisy / "L004" / f"{number}.dcm", seed=10 + number)
    for seed, folder in enumerate((clean, noisy)):
        volume = np.random.default_rng(seed).normal(0, 100, (70, 66, 2)).astype(np.float32)
        write_volume(folder / "L006.nii.gz", volume)
    return clean, noisy


def test_the_same_path_is_a_pair(folders: tuple[Path, Path]) -> None:
    clean, noisy = folders
    dataset = PairedSlices(validation_pairs(str(clean), str(noisy)))
    assert [each["name"] for each in dataset] == [
        *(f"L004/{number}.dcm" for number in range(3)),
        "L006.nii.gz#0",
        "L006.nii.gz#1",
    ]
    for item, low, normal in zip(dataset, find_slices(noisy), find_slices(clean), strict=True):
        np.testing.assert_array_equal(item["image"], read_slice(low)[None])
        np.testing.assert_array_equal(item["label"], read_slice(normal)[None])
        assert item["image"].dtype == item["label"].dtype == np.float32
        np.testing.assert_allclose(item["spacing_mm"], low.spacing_mm, rtol=1e-6)
        assert item["patient"] == low.patient


def test_limit_takes_pairs_from_the_whole_list(folders: tuple[Path, Path]) -> None:
    pairs = validation_pairs(*map(str, folders))
    assert [each["name"] for each in PairedSlices(pairs, limit=2)] == ["L004/0.dcm", "L006.nii.gz#1"]
    assert len(PairedSlices(pairs, limit=9)) == 5


def test_validation_is_optional() -> None:
    assert len(PairedSlices(validation_pairs())) == 0


@pytest.mark.parametrize(("given", "missing"), [("clean", "noisy"), ("noisy", "clean")])
def test_one_folder_alone_is_refused(given: str, missing: str) -> None:
    with pytest.raises(ValueError, match=f"--validation_{missing}_dir is missing"):
        validation_pairs(**{f"validation_{given}_dir": "somewhere"})


def test_image_without_a_partner_is_named(folders: tuple[Path, Path]) -> None:
    clean, noisy = folders
    (clean / "L004" / "1.dcm").unlink()
    with pytest.raises(ValueError, match=rf"^L004/1\.dcm is in {noisy} and not in {clean} \(1 such images\)"):
        validation_pairs(str(clean), str(noisy))
    write_ct(clean / "L004" / "1.dcm")
    write_ct(clean / "L004" / "3.dcm")
    with pytest.raises(ValueError, match=rf"^L004/3\.dcm is in {clean} and not in {noisy}"):
        validation_pairs(str(clean), str(noisy))


def test_pair_of_different_sizes_is_named(tmp_path: Path) -> None:
    write_grey(tmp_path / "clean" / "a.png", grey(side=64))
    write_grey(tmp_path / "noisy" / "a.png", grey(side=65))
    with pytest.raises(ValueError, match=r"a\.png are a pair and differ in size: \(65, 65\) and \(64, 64\)"):
        validation_pairs(str(tmp_path / "clean"), str(tmp_path / "noisy"))
