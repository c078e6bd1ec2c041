"""Which series may be processed, and in which order its slices lie."""

from collections.abc import Callable
from typing import Any

import pytest
from factories import ROOT, ct_dataset, ct_series
from multiframe import enhanced_ct, legacy_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from iscl_node.dicom.series import select_series
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
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "CT storage class"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "SUBTRACTION"]}, "calculated map"),
        ({"RealWorldValueMappingSequence": [mapped_to("ug/mL")]}, "Real World Value"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME2"),
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
        ({"MultienergyCTAcquisition": "YES"}, "does not tell what it shows"),
        ({"ContributingEquipmentSequence": own_equipment()}, "this node"),
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
    assert len(select_series(ct_series(3, **overrides))) == 3


@pytest.mark.fault("processing", "a series without instances", "quarantine with the reason")
def test_empty_series_is_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError, match="no instances"):
        select_series([])


@pytest.mark.parametrize(("keyword", "value"), [("Rows", 32), ("Columns", 32)])
@pytest.mark.fault("processing", "instances of several sizes in one batch", "quarantine with the attribute")
def test_mixed_series_is_quarantined(keyword: str, value: object) -> None:
    first, second = ct_series(2)
    setattr(second, keyword, value)
    with pytest.raises(QuarantineSeriesError, match=keyword):
        select_series([first, second])


@pytest.mark.fault("processing", "one instance twice in a batch", "quarantine with the reason")
def test_same_instance_twice_is_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError, match="SOP Instance UID"):
        select_series([ct_dataset(), ct_dataset()])


def test_reason_counts_the_instances_at_fault() -> None:
    series = ct_series(3)
    series[1].RescaleType = "Z_EFF"
    with pytest.raises(QuarantineSeriesError, match="1 of 3"):
        select_series(series)


def test_order_is_by_position() -> None:
    series = ct_series(4)
    for instance in series:
        instance.InstanceNumber = 10 - instance.InstanceNumber
    ordered = select_series([series[2], series[0], series[3], series[1]])
    assert [instance.ImagePositionPatient[2] for instance in ordered] == [1, 2, 3, 4]


def test_order_of_sagittal_slices_is_along_their_normal() -> None:
    series = ct_series(3, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])  # the normal is -x
    for instance, x in zip(series, (5.0, -5.0, 0.0), strict=True):
        instance.ImagePositionPatient = [x, 0, 0]
    assert [instance.ImagePositionPatient[0] for instance in select_series(series)] == [5, 0, -5]


def test_several_acquisitions_in_one_series_are_in_the_order_of_their_positions() -> None:
    arterial, venous = ct_series(3), ct_series(3)
    for instance in venous:
        instance.AcquisitionNumber, instance.InstanceNumber = 2, instance.InstanceNumber + 3
        instance.SOPInstanceUID += ".1"
    ordered = select_series([*venous, *arterial])
    assert [instance.InstanceNumber for instance in ordered] == [1, 4, 2, 5, 3, 6]


@pytest.mark.parametrize("missing", [None, ""])
def test_order_is_by_instance_number_where_a_position_is_missing(missing: str | None) -> None:
    series = ct_series(3)
    series[1].ImagePositionPatient = missing
    ordered = select_series(series[::-1])
    assert [instance.InstanceNumber for instance in ordered] == [1, 2, 3]


def test_real_head_series_with_gantry_tilt_and_unequal_spacing_is_taken(shared_ct: list) -> None:
    head = [dcmread(path) for path in shared_ct if path.parent.name == "head_gantry_tilt"]
    assert len(select_series(head)) == 28


@pytest.mark.fault("processing", "an image larger than 2048 x 2048", "quarantine with its size")
def test_an_image_of_the_largest_size_is_taken() -> None:
    largest = ct_dataset()
    largest.Rows, largest.Columns = 2048, 2048
    assert select_series([largest]) == (largest,)
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
            "2 of 2 frames: it is in color",
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
    (only,) = select_series([multiframe()])
    assert only.NumberOfFrames == 3
