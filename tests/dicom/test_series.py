"""Which series may be processed, and in which order its slices lie."""

from collections.abc import Callable
from typing import Any

import pytest
from factories import ROOT, ct_dataset, ct_series, soft_tissue
from multiframe import enhanced_ct, legacy_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from iscl_node.dicom.selecting.series import select_series
from iscl_node.errors import QuarantineSeriesError


def own_equipment() -> list[Dataset]:
    item = Dataset()
    item.Manufacturer, item.ManufacturerModelName = "ISCL Node developers", "ISCL Node"
    return [item]


def mapped_to(unit: str) -> Dataset:
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", "unit"
    item.MeasurementUnitsCodeSequence = [code]
    return item


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "SUBTRACTION"]}, "calculated map"),
        ({"RealWorldValueMappingSequence": [mapped_to("ug/mL")]}, "Real World Value"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "MONOCHROME2"),
        ({"SamplesPerPixel": 3}, "samples"),
        ({"BitsAllocated": 8}, "16 bits"),
        ({"BitsAllocated": 32}, "16 bits"),
        ({"HighBit": 11}, "High Bit"),
        ({"BitsStored": None}, "Bits Stored"),
        ({"PixelRepresentation": None}, "Pixel Representation"),
        ({"NumberOfFrames": 2}, "frames"),
        ({"RescaleSlope": None}, "Rescale Slope"),
        ({"RescaleIntercept": None}, "Rescale Slope"),
        ({"RescaleSlope": 0}, "Rescale Slope"),
        ({"RescaleType": "Z_EFF"}, "Hounsfield"),
        ({"RescaleType": "MGML"}, "Hounsfield"),
        ({"RescaleType": "HU_MOD"}, "Hounsfield"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MAT_SPECIFIC"]}, "material map of multi-energy CT"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"]}, "material map of multi-energy CT"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"]}, "material map of multi-energy CT"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "ELECTRON_DENSITY"]}, "material map of multi-energy CT"),
        ({"MultienergyCTAcquisition": "YES"}, "does not say what it shows"),
        ({"SeriesInstanceUID": None}, "SeriesInstanceUID"),
    ],
)
@pytest.mark.fault(
    "processing",
    "no CT in HU: localizer, calculated or material map, unknown rescale, color, wrong bits",
    "quarantine with the reason",
)
def test_ineligible_series_is_quarantined(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=message):
        select_series(ct_series(2, **overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        {"RescaleType": None},
        {"RescaleType": "US"},
        {"BitsStored": 12, "HighBit": 11},
        {"PixelRepresentation": 0},
        {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]},
        {"ImagePositionPatient": [0, 0, 0]},
        {"GantryDetectorTilt": 18.5},
        {"ImageType": "ORIGINAL"},
        {"RealWorldValueMappingSequence": [mapped_to("1"), mapped_to("[hnsf'U]")]},
        {"WindowCenter": None},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"], "MultienergyCTAcquisition": "YES"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]},
        {"PatientPosition": "FFDL"},
    ],
)
def test_eligible_series_passes(overrides: dict[str, Any]) -> None:
    assert len(select_series(ct_series(3, **overrides)).instances) == 3


@pytest.mark.fault("processing", "a series without instances", "quarantine with the reason")
def test_empty_series_is_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError, match="no instances"):
        select_series([])


def test_slices_of_several_sizes_are_processed() -> None:
    first, second = ct_series(2)
    second.Rows = 32
    assert len(select_series([first, second]).instances) == 2


@pytest.mark.fault("processing", "an identical copy of an instance in a batch", "it is left out, and counted")
def test_an_identical_copy_is_left_out() -> None:
    selection = select_series([ct_dataset(), ct_dataset()])
    assert len(selection.instances) == 1
    assert selection.notes == ("left out 1 of 2 instances: it is an identical copy",)


@pytest.mark.fault(
    "processing", "two different images of one SOP Instance UID in a batch", "quarantine, naming what differs"
)
def test_two_images_of_one_uid_are_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError, match="same SOP Instance UID, but differ in Pixel Data"):
        select_series([ct_dataset(), ct_dataset(soft_tissue(seed=1))])
    with pytest.raises(QuarantineSeriesError, match=r"same SOP Instance UID, but differ in Study Desc\w+ and Instance"):
        select_series([ct_dataset(), ct_dataset(InstanceNumber=2, StudyDescription="HEAD")])


def test_reason_counts_the_instances_at_fault() -> None:
    series = ct_series(3)
    series[1].RescaleSlope = 0
    with pytest.raises(QuarantineSeriesError, match="1 of 3 instances: it has Rescale Slope 0"):
        select_series(series)


def test_order_is_by_position() -> None:
    series = ct_series(4)
    for instance in series:
        instance.InstanceNumber = 10 - instance.InstanceNumber
    ordered = select_series([series[2], series[0], series[3], series[1]]).instances
    assert [instance.ImagePositionPatient[2] for instance in ordered] == [1, 2, 3, 4]


def test_order_of_sagittal_slices_is_along_their_normal() -> None:
    series = ct_series(3, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])  # the normal is -x
    for instance, x in zip(series, (5.0, -5.0, 0.0), strict=True):
        instance.ImagePositionPatient = [x, 0, 0]
    assert [instance.ImagePositionPatient[0] for instance in select_series(series).instances] == [5, 0, -5]


def test_several_acquisitions_in_one_series_are_in_the_order_of_their_positions() -> None:
    arterial, venous = ct_series(3), ct_series(3)
    for instance in venous:
        instance.AcquisitionNumber, instance.InstanceNumber = 2, instance.InstanceNumber + 3
        instance.SOPInstanceUID += ".1"
    ordered = select_series([*venous, *arterial]).instances
    assert [instance.InstanceNumber for instance in ordered] == [1, 4, 2, 5, 3, 6]


@pytest.mark.parametrize("missing", [None, ""])
def test_order_is_by_instance_number_where_a_position_is_missing(missing: str | None) -> None:
    series = ct_series(3)
    series[1].ImagePositionPatient = missing
    ordered = select_series(series[::-1]).instances
    assert [instance.InstanceNumber for instance in ordered] == [1, 2, 3]


def test_real_head_series_with_gantry_tilt_and_unequal_spacing_is_taken(shared_ct: list) -> None:
    head = [dcmread(path) for path in shared_ct if path.parent.name == "head_gantry_tilt"]
    assert len(select_series(head).instances) == 28


@pytest.mark.fault("processing", "an image larger than 2048 x 2048", "quarantine with its size")
def test_an_image_of_the_largest_size_is_taken() -> None:
    largest = ct_dataset()
    largest.Rows, largest.Columns = 2048, 2048
    assert select_series([largest]).instances == (largest,)
    largest.Columns = 2049
    with pytest.raises(QuarantineSeriesError, match="2048 x 2049 pixels"):
        select_series([largest])


def frame_types(*flavors: str) -> list[dict[str, Any]]:
    return [{"CTImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", each, "NONE"]}} for each in flavors]


@pytest.mark.parametrize(
    ("multiframe", "message"),
    [
        (lambda: enhanced_ct(3, per_frame=frame_types("VOLUME", "LOCALIZER", "VOLUME")), "1 of 3 frames: .*localizer"),
        (lambda: enhanced_ct(2, shared={"PixelValueTransformationSequence": {}}), "2 of 2 frames: .*Rescale"),
        (lambda: enhanced_ct(2, ConcatenationUID=f"{ROOT}.9"), "concatenation"),
        (lambda: enhanced_ct(2, shared={"CTImageFrameTypeSequence": {"PixelPresentation": "COLOR"}}), "color"),
        (lambda: enhanced_ct(2, Rows=32768, Columns=32769), "2 GiB"),
        (lambda: enhanced_ct(2, Rows=2048, Columns=2049), "2048 x 2049 pixels is larger than any CT"),
        (lambda: enhanced_ct(2, NumberOfFrames=3), "3 frames, but functional groups for 2"),
        (
            lambda: dcmread(str(get_testdata_file("eCT_Supplemental.dcm", download=False))),
            "1 of 1 instances: it is in color",
        ),
    ],
)
@pytest.mark.fault(
    "processing",
    "a multi-frame CT with frames that are no CT in HU, of 2 GiB, too large, or a part of a concatenation",
    "quarantine with the reason",
)
def test_ineligible_frames_are_quarantined(multiframe: Callable[[], Dataset], message: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=message):
        select_series([multiframe()])


@pytest.mark.parametrize("multiframe", [enhanced_ct, legacy_ct])
def test_multiframe_ct_is_eligible(multiframe: Callable[[], Dataset]) -> None:
    (only,) = select_series([multiframe()]).instances
    assert only.NumberOfFrames == 3
