"""Which files are images, whose they are, and that their values are exact."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from image_files import grey, write_ct, write_grey, write_volume
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import RawDataStorage

from monai_bundle.scripts.data.images import find_slices, read_hu, read_slice


def test_only_images_are_taken(tmp_path: Path) -> None:
    wanted = [write_ct(tmp_path / "a/2"), write_ct(tmp_path / "b/1.dcm")]
    write_ct(tmp_path / "a/scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_ct(tmp_path / "a/mr.dcm", Modality="MR")
    write_ct(tmp_path / "a/projection1.dcm", SeriesDescription="Full dose projections")
    write_ct(tmp_path / "a/projection2.dcm", SOPClassUID=RawDataStorage)
    (tmp_path / "a" / "empty.dcm").touch()
    (tmp_path / "a" / "notes.txt").write_text("not DICOM\n" * 100)
    (tmp_path / "a" / "cut.dcm").write_bytes(wanted[0].read_bytes()[:140])
    (tmp_path / "a" / "._b.png").write_bytes(b"what macOS leaves on foreign disks")
    (tmp_path / "a" / "folder.dcm").mkdir()
    assert [each.path for each in find_slices(tmp_path)] == wanted


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} holds no image"):
        find_slices(tmp_path)
    with pytest.raises(ValueError, match="missing is not a folder"):
        find_slices(tmp_path / "missing")


def test_kinds_may_be_mixed_in_a_folder(tmp_path: Path) -> None:
    write_ct(tmp_path / "1.dcm")
    write_volume(tmp_path / "2.nii", np.zeros((70, 80, 3), np.int16))
    write_grey(tmp_path / "3.PNG", grey())
    write_grey(tmp_path / "4.tif", grey(1), grey(2))
    found = [(each.path.name, each.index) for each in find_slices(tmp_path)]
    assert found == [("1.dcm", 0), ("2.nii", 0), ("2.nii", 1), ("2.nii", 2), ("3.PNG", 0), ("4.tif", 0), ("4.tif", 1)]


def test_hu_is_exact() -> None:
    path = Path(get_testdata_file("CT_small.dcm"))
    dataset = pydicom.dcmread(path)
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns).astype(float)
    hu = read_hu(path)
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, stored * dataset.RescaleSlope + dataset.RescaleIntercept)


@pytest.mark.parametrize(
    ("rescale", "kind"),
    [
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, np.int16),
        ({"RescaleSlope": 0.5, "RescaleIntercept": 0}, np.float32),
        ({"RescaleSlope": 100, "RescaleIntercept": 0}, np.float32),
    ],
)
def test_ct_takes_16_bits_only_where_nothing_is_lost(tmp_path: Path, rescale: dict[str, float], kind: type) -> None:
    path = write_ct(tmp_path / "1.dcm", **rescale)
    image = read_slice(find_slices(tmp_path)[0])
    assert image.dtype == kind
    np.testing.assert_array_equal(image, read_hu(path))


def test_description_of_a_ct_slice(tmp_path: Path) -> None:
    write_ct(tmp_path / "1.dcm", side=70, PixelSpacing=[0.5, 0.75], ImagePositionPatient=[-1, 2, 3.125])
    (item,) = find_slices(tmp_path)
    assert (item.patient, item.shape, item.spacing_mm) == ("T1", (70, 70), (0.5, 0.75))
    assert item.place == (-1, 2, 3.12)
    assert item.series == "THORAX"


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_volume_is_read_along_its_third_axis(tmp_path: Path, dtype: type) -> None:
    volume = (np.random.default_rng(0).normal(0, 300, (70, 80, 3)) + 0.25).astype(dtype)
    write_volume(tmp_path / "case.nii.gz", volume, (0.7, 0.8, 5.0))
    for index, item in enumerate(find_slices(tmp_path)):
        assert item.shape == (70, 80)
        assert item.spacing_mm == pytest.approx((0.7, 0.8))
        np.testing.assert_array_equal(read_slice(item), volume[:, :, index])
        assert read_slice(item).dtype == dtype


def test_volume_is_rescaled(tmp_path: Path) -> None:
    stored = np.arange(70 * 80, dtype=np.uint16).reshape(70, 80, 1)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(1, -1024)
    nibabel.save(image, tmp_path / "case.nii")
    np.testing.assert_array_equal(read_slice(find_slices(tmp_path)[0]), stored[:, :, 0].astype(float) - 1024)


def test_grey_images_keep_their_values_in_8_bits(tmp_path: Path) -> None:
    pages = grey(1), grey(2)
    write_grey(tmp_path / "a.png", pages[0])
    write_grey(tmp_path / "b.tiff", *pages)
    images = [read_slice(each) for each in find_slices(tmp_path)]
    assert {each.dtype for each in images} == {np.dtype(np.uint8)}
    for image, expected in zip(images, (pages[0], *pages), strict=True):
        np.testing.assert_array_equal(image, expected)


def test_patient_is_in_the_header_or_else_the_folder(tmp_path: Path) -> None:
    write_ct(tmp_path / "L004" / "series" / "1.dcm", PatientID="L333")
    write_ct(tmp_path / "L005" / "series" / "1.dcm", PatientID="")
    write_ct(tmp_path / "L006" / "series" / "1.dcm", PatientID=" Anonymous ")
    write_ct(tmp_path / "L006" / "series" / "2.dcm", PatientID=None)
    write_ct(tmp_path / "z.dcm", PatientID="")
    assert [each.patient for each in find_slices(tmp_path)] == ["L333", "L005", "L006", "L006", ""]


def test_patient_of_other_files_is_the_folder_or_the_name(tmp_path: Path) -> None:
    volume = np.zeros((64, 64, 1), np.int16)
    write_volume(tmp_path / "L004" / "full_dose.nii.gz", volume)
    write_volume(tmp_path / "L005_full.nii.gz", volume)
    write_grey(tmp_path / "fish" / "s_00.png", grey())
    write_grey(tmp_path / "s_01.png", grey())
    assert [each.patient for each in find_slices(tmp_path)] == ["L004", "L005", "fish", "s_01"]


@pytest.mark.parametrize(
    "overrides", [{"RescaleSlope": None}, {"RescaleIntercept": None}, {"NumberOfFrames": 2}], ids=str
)
def test_ct_that_cannot_be_used_is_named(tmp_path: Path, overrides: dict[str, object]) -> None:
    write_ct(tmp_path / "raw.dcm", **overrides)
    with pytest.raises(ValueError, match=r"raw\.dcm is no single CT slice"):
        find_slices(tmp_path)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    for name, message in (("a.png", "cannot be read"), ("b.nii", "cannot be read")):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(ValueError, match=rf"{name} {message}"):
            find_slices(tmp_path)
        (tmp_path / name).unlink()
    write_volume(tmp_path / "c.nii", np.zeros((64, 64, 2, 2), np.int16))
    with pytest.raises(ValueError, match=r"c\.nii is of 4 dimensions"):
        find_slices(tmp_path)
    (tmp_path / "c.nii").unlink()
    Image.new("RGB", (64, 64)).save(tmp_path / "d.png")
    with pytest.raises(ValueError, match=r"d\.png is no 8-bit grey image"):
        find_slices(tmp_path)


def test_image_beyond_the_limit_of_pillow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_grey(tmp_path / "a.tif", grey())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a\.tif cannot be read: Image size"):
        find_slices(tmp_path)


def test_volume_with_holes_is_refused(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii", np.full((64, 64, 1), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"a\.nii holds values that are not finite"):
        read_slice(find_slices(tmp_path)[0])
