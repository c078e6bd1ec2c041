"""The attributes of a simulated low-dose copy."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from iscl_node.dicom.copies.simulated import Simulation, projectable_spacing_mm, simulated
from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.volume import stored_values, to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.errors import QuarantineSeriesError
from tests.factories import ct_dataset, part10

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
QUARTER = Simulation(0.25, 0, "Poisson noise, I0=2e+06")


def copy_of(source: Dataset, noise_hu: npt.ArrayLike = 5.0, simulation: Simulation = QUARTER) -> Any:
    """Simulate, write, and read back."""
    low = to_hu(source) + np.asarray(noise_hu, np.float32)
    return dcmread(BytesIO(encode(simulated(source, low, simulation, NOW))))


def test_noise_arrives_in_the_pixels() -> None:
    source = ct_dataset()
    np.testing.assert_array_equal(stored_values(copy_of(source, 5.0)), stored_values(source) + 5)


def test_no_noise_keeps_every_pixel() -> None:
    source = ct_dataset(RescaleSlope=0.37)
    np.testing.assert_array_equal(stored_values(copy_of(source, 0.0)), stored_values(source))


def test_source_is_not_edited() -> None:
    source = ct_dataset()
    before = part10(source)
    copy_of(source)
    assert part10(source) == before


def test_says_what_it_is() -> None:
    source = ct_dataset()
    copy = copy_of(source)
    assert list(copy.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert copy.SyntheticData == "YES"
    assert copy.SeriesDescription == "THORAX SIM 25%"
    assert "Simulated low dose: 25%" in copy.DerivationDescription
    assert "seed 0" in copy.DerivationDescription
    assert "I0=2e+06" in copy.DerivationDescription
    assert copy.DerivationCodeSequence[-1].CodeValue == "113042"
    assert copy.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert copy.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert copy.ContributingEquipmentSequence[-1].ManufacturerModelName == "ISCL Node simulate"


def test_times_are_those_of_the_copy_in_the_zone_of_the_source() -> None:
    copy = copy_of(ct_dataset(TimezoneOffsetFromUTC="-0500", AcquisitionDate="20240101"))
    assert (copy.ContentDate, copy.ContentTime) == ("20260101", "220405.000678")
    assert copy.InstanceCreationDate == copy.SeriesDate == "20260101"
    assert copy.AcquisitionDate == "20240101"


def test_patient_geometry_and_exposure_stay() -> None:
    source = ct_dataset(XRayTubeCurrent=200, Exposure=100, CTDIvol=7.5)
    copy = copy_of(source)
    kept = "PatientName StudyInstanceUID FrameOfReferenceUID ImagePositionPatient PixelSpacing RescaleSlope WindowWidth"
    for keyword in (*kept.split(), "XRayTubeCurrent", "Exposure", "CTDIvol", "InstanceNumber"):
        assert copy[keyword] == source[keyword], keyword


def test_uids_depend_on_source_dose_seed_and_method_only() -> None:
    source = ct_dataset()
    copy = copy_of(source)
    assert copy.SOPInstanceUID.startswith("2.25.")
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy_of(deepcopy(source)).SOPInstanceUID == copy.SOPInstanceUID
    others = [Simulation(0.5, 0, QUARTER.method), Simulation(0.25, 1, QUARTER.method), Simulation(0.25, 0, "other")]
    uids = {copy_of(source, simulation=each).SOPInstanceUID for each in others}
    assert len({*uids, copy.SOPInstanceUID, copy.SeriesInstanceUID, source.SOPInstanceUID}) == 6


def test_uid_is_the_same_for_ever() -> None:
    assert QUARTER.uid("1.2.840.113619.2.55.3") == "2.25.322628674433751084105751164259707039522"


def test_suffix_is_never_cut() -> None:
    copy = copy_of(ct_dataset(SeriesDescription="x" * 64))
    assert copy.SeriesDescription.endswith("x SIM 25%")
    assert len(copy.SeriesDescription) == 64


def test_series_number_tells_the_dose() -> None:
    assert copy_of(ct_dataset(SeriesNumber=3)).SeriesNumber == 3250


@pytest.mark.parametrize("number", [None, 2**31 - 1, -4])
def test_series_number_fits(number: int | None) -> None:
    found = int(copy_of(ct_dataset(SeriesNumber=number)).SeriesNumber)
    assert 2_000_000_000 <= found < 2**31
    assert found % 1000 == 250


def test_private_tags_icon_and_pixel_extremes_go() -> None:
    source = ct_dataset(InstanceCreatorUID="1.2.3", IconImageSequence=[Dataset()])
    source.add_new("SmallestImagePixelValue", "SS", 0)
    source.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x27, "SH", "x")
    copy = copy_of(source)
    assert not [element for element in copy if element.tag.is_private]
    for keyword in ("IconImageSequence", "SmallestImagePixelValue", "InstanceCreatorUID"):
        assert keyword not in copy


def test_padding_stays_padding_and_noise_never_becomes_padding() -> None:
    pixels = np.full((8, 8), 24, np.int16)
    pixels[0] = -2000
    source = ct_dataset(pixels)
    source.add_new("PixelPaddingValue", "SS", -2000)
    stored = stored_values(copy_of(source, -2024.0))
    assert (stored[0] == -2000).all()
    assert (stored[1:] == -1999).all()


def test_circle_outside_without_a_padding_value_stays() -> None:
    pixels = np.full((8, 8), 1000, np.int16)
    pixels[0] = -1024  # -2048 HU
    stored = stored_values(copy_of(ct_dataset(pixels), 30.0))
    assert (stored[0] == -1024).all()
    assert (stored[1:] == 1030).all()


@pytest.mark.parametrize(("representation", "limits"), [(0, (0, 4095)), (1, (-2048, 2047))])
def test_values_are_clipped_to_the_bits(representation: int, limits: tuple[int, int]) -> None:
    pixels = np.full((8, 8), 1000, np.int16 if representation else np.uint16)
    source = ct_dataset(pixels, BitsStored=12, HighBit=11, PixelRepresentation=representation)
    assert stored_values(copy_of(source, -9000.0)).min() == limits[0]
    assert stored_values(copy_of(source, 9000.0)).max() == limits[1]


def test_node_denoises_the_copy_and_does_not_take_it_for_its_own() -> None:
    copy = copy_of(ct_dataset())
    assert not is_own_output(copy)
    assert len(select_series([copy]).instances) == 1


def test_a_copy_of_a_copy_keeps_the_history() -> None:
    twice = copy_of(copy_of(ct_dataset()))
    assert len(twice.ContributingEquipmentSequence) == len(twice.DerivationCodeSequence) == 2
    assert twice.SeriesDescription == "THORAX SIM 25% SIM 25%"


def test_valid_source_gives_a_valid_copy(complaints: Callable[[bytes], Counter[str]]) -> None:
    source = ct_dataset()
    added = complaints(encode(simulated(source, to_hu(source), QUARTER, NOW))) - complaints(part10(source))
    assert not added


def test_real_slices_get_no_new_complaints(shared_ct: list[Path], complaints: Callable[[bytes], Counter[str]]) -> None:
    for path in shared_ct[::8]:
        source = dcmread(path)
        added = complaints(encode(simulated(source, to_hu(source) + 3, QUARTER, NOW))) - complaints(path.read_bytes())
        assert not added, path


@pytest.mark.parametrize(
    "orientation",
    [
        None,
        [1, 0, 0, 0, 1, 0],
        [-1, 0, 0, 0, 1, 0],  # from the other side
        [0, 1, 0, -1, 0, 0],  # turned in its plane
        [1, 0, 0, 0, 0.866025, -0.5],  # a gantry tilted by 30 degrees
    ],
)
def test_an_axial_slice_can_be_projected(orientation: list[float] | None) -> None:
    source = ct_dataset(PixelSpacing=[0.7, 0.7005], ImageOrientationPatient=orientation)
    assert projectable_spacing_mm(source) == 0.7


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0.64, -0.77]])
def test_a_reformat_cannot_be_projected(orientation: list[float]) -> None:
    with pytest.raises(QuarantineSeriesError, match="coronal or sagittal reformat"):
        projectable_spacing_mm(ct_dataset(ImageOrientationPatient=orientation))


@pytest.mark.parametrize(
    ("spacing", "reason"),
    [
        (None, "without usable Pixel Spacing"),
        ([0, 0], "without usable Pixel Spacing"),
        (0.7, "without usable Pixel Spacing"),
        ([0.7, 0.702], "0.7 by 0.702 mm are not square"),
        ([1.4, 0.7], "not square"),
    ],
)
def test_without_square_pixels_nothing_is_projected(spacing: object, reason: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=reason):
        projectable_spacing_mm(ct_dataset(PixelSpacing=spacing))
