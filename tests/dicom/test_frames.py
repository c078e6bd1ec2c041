"""Frames of multi-frame CT as single slices."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import ct_dataset, part10
from multiframe import enhanced_ct, legacy_ct
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from iscl_node.dicom.reading.folder import read_instance
from iscl_node.dicom.reading.frames import frames, is_multiframe
from iscl_node.dicom.reading.volume import padding_mask, stored_values, to_hu
from iscl_node.errors import QuarantineSeriesError


def pixels_of(source: Any) -> np.ndarray:
    return np.stack([stored_values(view) for view in frames(source)])


def in_a_file(source: Dataset, folder: Path) -> Dataset:
    path = folder / "multiframe.dcm"
    path.write_bytes(part10(source))
    return read_instance(path)


def test_a_ct_image_is_its_own_only_frame() -> None:
    source = ct_dataset()
    (only,) = frames(source)
    assert only is source
    assert not is_multiframe(source)


@pytest.mark.parametrize("make", [enhanced_ct, legacy_ct])
def test_a_frame_reads_like_a_ct_image(make: Callable[[int], Any]) -> None:
    source = make(3)
    views = frames(source)
    assert is_multiframe(source)
    assert len(views) == 3
    for view, groups in zip(views, source.PerFrameFunctionalGroupsSequence, strict=True):
        assert view.ImagePositionPatient == groups.PlanePositionSequence[0].ImagePositionPatient
        assert view.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
        assert (view.RescaleSlope, view.RescaleIntercept, view.RescaleType) == (1, -1024, "HU")
        assert (view.WindowCenter, view.WindowWidth) == (40, 400)
        assert (view.KVP, view.SliceThickness) == (120, 5)
        assert view.PatientName == "Test^Case"
        assert "NumberOfFrames" not in view
        assert "PerFrameFunctionalGroupsSequence" not in view
    np.testing.assert_array_equal(pixels_of(source), source.pixel_array)


def test_attributes_have_the_names_and_types_of_a_ct_image() -> None:
    view = frames(enhanced_ct(1))[0]
    assert view.ConvolutionKernel == "B30f"
    assert view.ImageType == ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    assert (view.XRayTubeCurrent, view.ExposureTime, view.Exposure) == (120, 500, 60)


def test_what_a_frame_says_itself_wins() -> None:
    rescales = [{"PixelValueTransformationSequence": rescale(slope)} for slope in (1, 2)]
    source = enhanced_ct(2, per_frame=rescales, RescaleSlope=7)
    first, second = frames(source)
    assert (first.RescaleSlope, second.RescaleSlope) == (1, 2)
    np.testing.assert_array_equal(to_hu(second), 2.0 * source.pixel_array[1] - 1024)


def rescale(slope: float) -> dict[str, Any]:
    return {"RescaleSlope": slope, "RescaleIntercept": -1024, "RescaleType": "HU"}


def test_what_a_conversion_could_not_assign_fills_gaps_only() -> None:
    source = legacy_ct(2, CTDIvol=3.5)
    unassigned = source.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence[0]
    unassigned.PatientName = "Somebody^Else"
    view = frames(source)[0]
    assert (view.CTDIvol, view.PatientName) == (3.5, "Test^Case")
    assert view.SeriesNumber == 7  # and not the number of the converted series


def test_frame_types_may_differ() -> None:
    types = [{"CTImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", each]}} for each in ("A", "LOCALIZER")]
    assert [view.ImageType[2] for view in frames(enhanced_ct(2, per_frame=types))] == ["A", "LOCALIZER"]


def test_padding_is_that_of_the_whole_image() -> None:
    pixels = np.array([[[-2000, 5]], [[6, -2000]]], dtype=np.int16)
    masks = [padding_mask(view).tolist() for view in frames(enhanced_ct(2, pixels, PixelPaddingValue=-2000))]
    assert masks == [[[True, False]], [[False, True]]]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_any_native_syntax(syntax: Any) -> None:
    source = enhanced_ct(2)
    expected = source.pixel_array
    if syntax == ExplicitVRBigEndian:
        source["PixelData"].value = expected.astype(">i2").tobytes()
    source.file_meta.TransferSyntaxUID = syntax
    stream = BytesIO()
    dcmwrite(
        stream,
        source,
        enforce_file_format=True,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    np.testing.assert_array_equal(pixels_of(dcmread(BytesIO(stream.getvalue()))), expected)


@pytest.mark.parametrize("has_offset_table", [True, False])
def test_compressed_frames(has_offset_table: bool, tmp_path: Path) -> None:
    source = enhanced_ct(3)
    expected = source.pixel_array
    source.compress(RLELossless, generate_instance_uid=False)
    if not has_offset_table:
        length = int.from_bytes(source.PixelData[4:8], "little")
        source.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + source.PixelData[8 + length :]
    for read in (source, in_a_file(source, tmp_path)):
        np.testing.assert_array_equal(pixels_of(read), expected)


def test_pixels_in_a_file_are_read_by_the_frame(tmp_path: Path) -> None:
    source = in_a_file(enhanced_ct(3), tmp_path)
    np.testing.assert_array_equal(pixels_of(source), enhanced_ct(3).pixel_array)
    assert source.get_item("PixelData", keep_deferred=True).value is None


@pytest.mark.parametrize("number_of_frames", [2, 4, 0, None])
def test_frames_without_functional_groups_are_refused(number_of_frames: int | None) -> None:
    source = enhanced_ct(3)
    source.NumberOfFrames = number_of_frames
    with pytest.raises(QuarantineSeriesError, match="functional groups for 3"):
        frames(source)


def test_a_frame_that_is_not_there_is_refused() -> None:
    source = enhanced_ct(2)
    source.PixelData = source.PixelData[: len(source.PixelData) // 2]
    first, second = frames(source)
    stored_values(first)
    with pytest.raises(QuarantineSeriesError):
        stored_values(second)


def test_a_compressed_frame_that_is_not_there_is_refused() -> None:
    source = enhanced_ct(2)
    source.compress(RLELossless, generate_instance_uid=False)
    source.PixelData = source.PixelData[:40]
    with pytest.raises(QuarantineSeriesError, match="frame 2"):
        stored_values(frames(source)[1])


def test_views_leave_the_source_as_it_is() -> None:
    source = legacy_ct(2)
    before = part10(source)
    pixels_of(source)
    assert part10(source) == before
