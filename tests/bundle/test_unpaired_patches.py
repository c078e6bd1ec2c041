"""Which files are read, how, and which patches are drawn from them."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import ct_dataset, part10, soft_tissue
from pydicom.data import get_testdata_file

from monai_bundle.scripts.data import UnpairedPatches, ct_files, iteration_loader, patches, read_hu, volume_files


def written(folder: Path, name: str, **overrides: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    side = overrides.pop("side", 80)
    path.write_bytes(part10(ct_dataset(soft_tissue(seed=len(name), side=side), **overrides)))
    return path


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return [written(tmp_path / "series", f"{'i' * number}.dcm") for number in (1, 2, 3)]


def test_only_ct_images_are_taken(tmp_path: Path) -> None:
    wanted = [written(tmp_path, "a/2"), written(tmp_path, "b/1.dcm")]
    written(tmp_path, "a/scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    written(tmp_path, "a/mr.dcm", Modality="MR")
    (tmp_path / "a" / "empty.dcm").touch()
    (tmp_path / "a" / "notes.txt").write_text("not DICOM\n" * 100)
    (tmp_path / "a" / "cut.dcm").write_bytes(wanted[0].read_bytes()[:140])
    (tmp_path / "a" / "folder.dcm").mkdir()
    assert ct_files(tmp_path) == wanted


def test_folder_without_ct_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no CT image"):
        ct_files(tmp_path)
    with pytest.raises(ValueError, match="missing is not a folder"):
        ct_files(tmp_path / "missing")


def test_hu_is_exact() -> None:
    path = Path(get_testdata_file("CT_small.dcm"))
    dataset = pydicom.dcmread(path)
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).astype(float)
    hu = read_hu(path)
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, stored * dataset.RescaleSlope + dataset.RescaleIntercept)


def test_image_without_rescale_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"raw\.dcm is no single CT slice"):
        read_hu(written(tmp_path, "raw.dcm", RescaleSlope=None, RescaleIntercept=None))


def test_image_smaller_than_a_patch_is_named(tmp_path: Path, slices: list[Path]) -> None:
    small = written(tmp_path, "small.dcm", side=60)
    with pytest.raises(ValueError, match=r"small\.dcm is 60 x 60 pixels; a patch needs 64"):
        UnpairedPatches(slices, [small], length=1, batch_size=2)


def test_batch_of_one_is_refused_before_reading() -> None:
    with pytest.raises(ValueError, match="batch_size is 1"):
        UnpairedPatches([Path("unread")], [Path("unread")], length=1, batch_size=1)


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


def test_items_depend_on_seed_and_index_alone(slices: list[Path]) -> None:
    dataset = UnpairedPatches(slices, slices, length=5, batch_size=4, seed=3)
    other = UnpairedPatches(slices, slices, length=5, batch_size=4, seed=4)
    again = [dataset[index] for index in (4, 0, 2)]
    for index, item in zip((4, 0, 2), again, strict=True):
        for domain in ("noisy", "clean"):
            np.testing.assert_array_equal(dataset[index][domain], item[domain])
            assert (other[index][domain] != item[domain]).any()
            assert item[domain].shape == (4, 1, 64, 64)
    assert (again[0]["noisy"] != again[1]["noisy"]).any()


def test_resumed_run_goes_on_with_new_patches(slices: list[Path]) -> None:
    whole = UnpairedPatches(slices, slices, length=4, batch_size=2)
    resumed = UnpairedPatches(slices, slices, length=4, batch_size=2)
    resumed.first = 2
    np.testing.assert_array_equal(resumed[1]["noisy"], whole[3]["noisy"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_gives_whole_batches_in_order(slices: list[Path], num_workers: int) -> None:
    dataset = UnpairedPatches(slices, slices, length=3, batch_size=2)
    loaded = list(iteration_loader(dataset, num_workers))
    assert len(loaded) == 3
    for index, batch in enumerate(loaded):
        np.testing.assert_array_equal(batch["clean"].numpy(), dataset[index]["clean"])


def test_volumes_are_found_by_name(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz", "c.txt"):
        (tmp_path / name).touch()
    assert volume_files(tmp_path) == [{"image": str(tmp_path / "a.nii.gz")}, {"image": str(tmp_path / "b.nii")}]
    with pytest.raises(ValueError, match="holds no NIfTI volume"):
        volume_files(tmp_path / "none")
