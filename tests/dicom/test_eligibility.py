"""What is stored as CT Image and is no slice in Hounsfield units."""

from typing import Any

import pytest
from factories import ct_dataset, ct_series
from pydicom.dataset import Dataset

from iscl_node.dicom.selecting.eligibility import fault_of
from iscl_node.dicom.selecting.series import parted, select_series
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError

NOWHERE = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "KVP": None}
CORONAL = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}


def image_type(*values: str) -> dict[str, Any]:
    return {"ImageType": list(values)}


NO_SLICES = [
    (image_type("ORIGINAL", "PRIMARY", "LOCALIZER"), "it is a localizer"),
    (image_type("ORIGINAL", "PRIMARY", "AXIAL", "SCOUT"), "it is a localizer"),
    (image_type("ORIGINAL", "PRIMARY", "OTHER", "CT_SOM5 TOP"), "it is a localizer"),
    (image_type("DERIVED", "SECONDARY", " screen save"), "it is a screen"),
    (image_type("DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"), "page of a protocol"),
    (image_type("DERIVED", "SECONDARY", "DOSE_INFO"), "page of a protocol or a report"),
    (NOWHERE | {"BurnedInAnnotation": "YES"}, "secondary capture: text is burned in"),
    (NOWHERE | {"ConversionType": "WSD"}, "secondary capture: it has a Conversion Type"),
    (CORONAL | {"SliceThickness": 450}, "scout"),
    (CORONAL | {"ConvolutionKernel": None}, "scout"),
    (CORONAL | {"ConvolutionKernel": "T20f"}, "scout"),
    (CORONAL | {"SeriesDescription": "Topogram  0.6  T20f"}, "scout"),
    ({"ImageOrientationPatient": None, "SeriesDescription": "AP SCOUT", "ConvolutionKernel": None}, "scout"),
    ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "it is Secondary Capture Image Storage, no CT Image"),
]

NOT_IN_HU = [
    (image_type("DERIVED", "SECONDARY", "AXIAL", "PERFUSION", "CBF"), "perfusion map"),
    (image_type("DERIVED", "SECONDARY", "CT_PERF MTT"), "perfusion map"),
    (image_type("DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"), "material map"),
    (image_type("DERIVED", "PRIMARY", "IODINE MAP"), "material map"),
    (image_type("DERIVED", "SECONDARY", "AXIAL", "SUBTRACTION"), "calculated map"),
    (image_type("DERIVED", "SECONDARY", "MU_MAP"), "calculated map"),
    (image_type("DERIVED", "SECONDARY", "VRT"), "volume rendering"),
    (image_type("DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"), "tomosynthesis"),
    ({"KVP": 28}, "kV of mammography"),
    ({"Units": "1CM"}, "Units"),
    ({"RescaleType": " MGML"}, "Rescale Type"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "MONOCHROME2"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "several samples"),
    (NOWHERE | image_type("DERIVED", "SECONDARY"), "no position, orientation or kV"),
    ({"BurnedInAnnotation": "YES"}, "text burned in"),
]

FAULTY = [
    ({"RescaleSlope": 0}, "Rescale Slope 0"),
    ({"RescaleSlope": 1e9}, "absurd Rescale Slope"),
    ({"BitsStored": 8, "HighBit": 7}, "so few Bits Stored"),
    ({"BitsAllocated": 8}, "8 bits hold no HU scale"),
    ({"SamplesPerPixel": None}, "no Samples per Pixel"),
    ({"NumberOfFrames": 4}, "several frames in a CT Image, which has one: send it as Enhanced CT"),
]


def other(overrides: dict[str, Any]) -> Dataset:
    return ct_dataset(**({"SOPInstanceUID": "1.2.3.99", "InstanceNumber": 99} | overrides))


@pytest.mark.parametrize(("overrides", "reason"), NO_SLICES)
@pytest.mark.fault(
    "processing",
    "scouts, screens, protocol pages and other objects that are no slice, under the UID of a CT series or alone",
    "left out with a count and the reason; a series of nothing else is ignored, without an alarm",
)
def test_what_is_no_slice_is_left_out_or_ignored(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(IgnoreSeriesError, match=reason):
        select_series([other(overrides)])
    for series in ([other(overrides), *ct_series(2)], [*ct_series(2), other(overrides)]):
        selection = select_series(series)
        assert [each.InstanceNumber for each in selection.instances] == [1, 2]
        (note,) = selection.notes
        assert note.startswith("left out 1 of 3 instances: it ")
        assert reason in note


@pytest.mark.parametrize(("overrides", "reason"), NOT_IN_HU)
@pytest.mark.fault(
    "processing",
    "maps, renderings, tomosynthesis, colours: stored as CT Image, and not in Hounsfield units",
    "left out with a count and the reason; a series of nothing else goes to quarantine",
)
def test_what_is_not_in_hu_is_left_out_or_quarantined(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=f"1 of 1 instances: it .*{reason}"):
        select_series([other(overrides)])
    selection = select_series([other(overrides), *ct_series(2)])
    assert [each.InstanceNumber for each in selection.instances] == [1, 2]
    assert reason in selection.notes[0]


@pytest.mark.parametrize(("overrides", "reason"), FAULTY)
def test_a_slice_that_cannot_be_processed_stops_its_series(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(QuarantineSeriesError, match=f"1 of 3 instances: it .*{reason}"):
        select_series([other(overrides), *ct_series(2)])


@pytest.mark.parametrize(
    "overrides",
    [
        image_type("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"),
        image_type("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"),
        image_type("DERIVED", "SECONDARY", "MIP"),
        image_type("DERIVED", "PRIMARY", "AXIAL", "VMI"),
        image_type(" ORIGINAL", "PRIMARY ", " AXIAL "),
        CORONAL,
        CORONAL | image_type("DERIVED", "SECONDARY", "MPR") | {"ConvolutionKernel": None},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.5, -0.866]},
        {"ImageOrientationPatient": None, "ImagePositionPatient": None},
        {"SeriesDescription": "after scout"},
        {"ImageType": None},
        {"KVP": None},
        {"PhotometricInterpretation": " MONOCHROME2"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"RescaleType": " hu "},
        {"Units": "HU"},
        {"BurnedInAnnotation": "NO"},
    ],
)
def test_what_is_a_slice_is_processed(overrides: dict[str, Any]) -> None:
    assert fault_of(other(overrides)) is None
    assert len(parted([other(overrides)]).instances) == 1
