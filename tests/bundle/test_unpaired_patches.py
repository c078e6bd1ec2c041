"""Which images are trained on, and which patches are drawn from them."""

import logging
import sys
from pathlib import Path

import monai.bundle
import nibabel
import numpy as np
import pytest
from image_files import grey, write_ct, write_grey, write_volume

from monai_bundle.scripts.data.images import Slice, find_slices, read_slice
from monai_bundle.scripts.data.patches import patches
from monai_bundle.scripts.data.unpaired import UnpairedPatches, iteration_loader, training_slices, volume_files


@pytest.fixture
def slices(tmp_path: Path) -> list[Slice]:
    for number in (1, 2, 3):
        write_ct(tmp_path / "series" / f"{number}.dcm", seed=number)
    return find_slices(tmp_path / "series")


def test_folders_of_every_kind_are_taken(tmp_path: Path) -> None:
    write_ct(tmp_path / "noisy" / "1.dcm", PatientID="L004")
    write_volume(tmp_path / "noisy" / "L005.nii.gz", np.zeros((64, 64, 2), np.int16))
    write_grey(tmp_path / "clean" / "s_01.png", grey())
    found = training_slices(str(tmp_path / "clean"), str(tmp_path / "noisy"))
    assert [each.patient for each in found.noisy] == ["L004", "L005", "L005"]
    assert [each.patient for each in found.clean] == ["s_01"]
    batch = UnpairedPatches(found, length=1, batch_size=4)[0]
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        "noisy": ((4, 1, 64, 64), np.float32),
        "clean": ((4, 1, 64, 64), np.float32),
    }


def test_patient_in_both_domains_is_named(tmp_path: Path) -> None:
    for number, patient in enumerate(("L004", "L006")):
        write_ct(tmp_path / "clean" / f"{number}.dcm", PatientID=patient)
    write_ct(tmp_path / "noisy" / "other name" / "9.dcm", PatientID="L006")
    with pytest.raises(
        ValueError, match=r"^patient L006 is in both domains .*other name/9\.dcm is noisy, .*1\.dcm is clean"
    ):
        training_slices(str(tmp_path / "clean"), str(tmp_path / "noisy"))


@pytest.mark.parametrize("name", ["a.png", "L004_1.nii", "L004/1.dcm"])
def test_the_same_name_in_both_domains_is_the_same_patient(tmp_path: Path, name: str) -> None:
    for domain in ("clean", "noisy"):
        path = tmp_path / domain / name
        if name.endswith("png"):
            write_grey(path, grey())
        elif name.endswith("nii"):
            write_volume(path, np.zeros((64, 64, 1), np.int16))
        else:
            write_ct(path, PatientID="anonymous")
    with pytest.raises(ValueError, match="is in both domains"):
        training_slices(str(tmp_path / "clean"), str(tmp_path / "noisy"))


def test_unknown_patients_are_taken_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for domain in ("clean", "noisy"):
        write_ct(tmp_path / domain / "1.dcm", PatientID="")
    with caplog.at_level(logging.WARNING):
        training_slices(str(tmp_path / "clean"), str(tmp_path / "noisy"))
    assert "2 images have no Patient ID and no folder of their own" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--clean_dir is missing; it names a folder of images"),
        ({"clean_dir": "."}, "--noisy_dir is missing"),
        ({"clean_dir": "nowhere", "noisy_dir": "."}, "--clean_dir: nowhere is not a folder"),
        ({"clean_dir": ".", "noisy_dir": ".", "dataset_dir": "."}, "--dataset_dir is given with --clean_dir"),
        ({"dataset_dir": ".", "split": "none.json"}, "--split: none.json is no file"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        training_slices(**arguments)


def test_mistake_on_the_command_line_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(monai.bundle.__file__).parent / "__main__.py"), "run", "training"])
    with pytest.raises(SystemExit, match=r"^error: --clean_dir is missing"):
        training_slices()


def test_image_smaller_than_a_patch_is_named(tmp_path: Path, slices: list[Slice]) -> None:
    write_ct(tmp_path / "small" / "small.dcm", side=60)
    small = find_slices(tmp_path / "small")
    (tmp_path / "small" / "small.dcm").unlink()  # refused before it is read
    with pytest.raises(ValueError, match=r"small\.dcm is 60 x 60 pixels; a patch needs 64"):
        UnpairedPatches((slices, small), length=1, batch_size=2)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"batch_size": 1}, "--batch_size is 1"),
        ({"batch_size": 6, "images_per_batch": 4}, "--batch_size is 6, no multiple of --images_per_batch, 4"),
        ({"batch_size": 6, "images_per_batch": 0}, "--batch_size is 6, no multiple of --images_per_batch, 0"),
        ({"batch_size": 4, "images_per_batch": 4}, "--images_per_batch is 4, but there are 3 noisy images"),
    ],
)
def test_impossible_batch_is_refused_before_reading(slices: list[Slice], batch: dict[str, int], message: str) -> None:
    for each in slices:
        each.path.unlink()
    with pytest.raises(ValueError, match=f"^{message}"):
        UnpairedPatches((slices, slices), length=1, **batch)


@pytest.mark.parametrize("images_per_batch", [1, 2, 3])
def test_batch_is_composed_of_so_many_images(tmp_path: Path, images_per_batch: int) -> None:
    for number in range(4):
        write_grey(tmp_path / f"{number}.png", np.full((64, 64), number, np.uint8))
    images = find_slices(tmp_path)
    dataset = UnpairedPatches((images, images), length=40, batch_size=6, images_per_batch=images_per_batch)
    seen = set()
    for batch in map(dataset.__getitem__, range(40)):
        numbers, counts = np.unique(batch["noisy"][:, 0, 0, 0], return_counts=True)
        assert len(numbers) == images_per_batch
        assert set(counts) == {6 // images_per_batch}
        seen |= set(numbers)
    assert seen == {0, 1, 2, 3}


def test_images_are_held_in_16_bits(slices: list[Slice]) -> None:
    dataset = UnpairedPatches((slices, slices), length=1, batch_size=2)
    for image, item in zip(dataset.images["noisy"], slices, strict=True):
        assert image.dtype == np.int16
        np.testing.assert_array_equal(image, read_slice(item))


@pytest.mark.parametrize("size", [(64, 64), (65, 130), (200, 64)])
@pytest.mark.parametrize("count", [2, 6, 7, 64])
def test_patches_are_turned_squares_of_the_image(size: tuple[int, int], count: int) -> None:
    image = np.arange(size[0] * size[1], dtype=np.float32).reshape(size)  # every pixel tells its place
    drawn = patches(image, count, np.random.default_rng(0))
    assert drawn.shape == (count, 1, 64, 64)
    for patch in drawn[:, 0]:
        top, left = divmod(int(patch.min()), size[1])
        square = image[top : top + 64, left : left + 64]
        turned = [np.rot90(side, turns) for side in (square, square.T) for turns in range(4)]
        assert sum(np.array_equal(patch, side) for side in turned) == 1


def test_patches_cover_the_image() -> None:
    image = np.arange(66 * 70, dtype=np.float32).reshape(66, 70)
    drawn = patches(image, 64, np.random.default_rng(0))
    assert np.unique(drawn).size == image.size


def test_items_depend_on_seed_and_index_alone(slices: list[Slice]) -> None:
    dataset = UnpairedPatches((slices, slices), length=5, batch_size=4, seed=3)
    other = UnpairedPatches((slices, slices), length=5, batch_size=4, seed=4)
    again = [dataset[index] for index in (4, 0, 2)]
    for index, item in zip((4, 0, 2), again, strict=True):
        for domain in ("noisy", "clean"):
            np.testing.assert_array_equal(dataset[index][domain], item[domain])
            assert (other[index][domain] != item[domain]).any()
            assert item[domain].shape == (4, 1, 64, 64)
    assert (again[0]["noisy"] != again[1]["noisy"]).any()


def test_resumed_run_goes_on_with_new_patches(slices: list[Slice]) -> None:
    whole = UnpairedPatches((slices, slices), length=4, batch_size=2)
    resumed = UnpairedPatches((slices, slices), length=4, batch_size=2)
    resumed.first = 2
    np.testing.assert_array_equal(resumed[1]["noisy"], whole[3]["noisy"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_gives_whole_batches_in_order(slices: list[Slice], num_workers: int) -> None:
    dataset = UnpairedPatches((slices, slices), length=3, batch_size=2)
    loaded = list(iteration_loader(dataset, num_workers))
    assert len(loaded) == 3
    for index, batch in enumerate(loaded):
        np.testing.assert_array_equal(batch["clean"].numpy(), dataset[index]["clean"])


def test_volumes_are_found_by_name(tmp_path: Path) -> None:
    volume = np.zeros((4, 4, 2), np.float32)
    for name in ("b.nii", "a.nii.gz", "p1/c.nii", "out/a_denoised.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / name)
    (tmp_path / "c.txt").touch()
    found = [{"image": str(tmp_path / name)} for name in ("a.nii.gz", "b.nii", "p1/c.nii")]
    assert volume_files(tmp_path, tmp_path / "out") == found
    assert volume_files(tmp_path / "p1", tmp_path) == found[-1:]
    with pytest.raises(ValueError, match="holds no NIfTI volume"):
        volume_files(tmp_path / "none")


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2, 2)])
def test_a_volume_of_other_axes_is_named_with_its_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a.nii.gz has the shape \(4, 4"):
        volume_files(tmp_path)


def test_what_is_no_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"no volume")
    with pytest.raises(ValueError, match=r"a\.nii is no NIfTI volume"):
        volume_files(tmp_path)


def test_a_patch_of_air_is_drawn_anew_where_there_is_tissue() -> None:
    image = np.full((512, 512), -1000, np.int16)
    image[:, 256:] = 40
    rng = np.random.default_rng(0)
    inside = [(patches(image, 1, rng, (-160, 240), 0.5) > -160).mean() >= 0.5 for _ in range(100)]
    anywhere = [(patches(image, 1, rng) > -160).mean() >= 0.5 for _ in range(100)]
    assert sum(inside) > 90  # half of the patches of a draw do; six draws fail once in 64
    assert sum(anywhere) < 70


def test_an_image_without_tissue_still_gives_a_patch() -> None:
    air = np.full((64, 64), -1000, np.int16)
    assert patches(air, 1, np.random.default_rng(0), (-160, 240), 0.5).shape == (1, 1, 64, 64)
