"""The derived instance: what is new, what is kept, and that a validator agrees."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from factories import CT_IMAGE, ROOT, ct_dataset, ct_series, file_meta_of, part10
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.deriving.inherited import MOST_NESTED
from iscl_node.dicom.deriving.writing import keep_loss_history
from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.domain import Derivation, Site
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError

STARTED = datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 30, 5, 250000, tzinfo=UTC)

MADE_NEW = frozenset(
    """SOPInstanceUID SeriesInstanceUID InstanceCreatorUID SeriesNumber SeriesDescription ImageType ContentQualification
    SeriesDate SeriesTime InstanceCreationDate InstanceCreationTime ContentDate ContentTime DerivationDescription
    SourceImageSequence DerivationCodeSequence ReferencedSeriesSequence RelatedSeriesSequence
    ContributingEquipmentSequence PixelData SmallestImagePixelValue LargestImagePixelValue""".split()  # noqa: SIM905
)
KNOWN_WARNINGS = frozenset(
    {
        # Device UID is in the SOP Common Module (PS3.3 Table C.12-1), type 3; dciodvfy does not know it yet.
        "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - "
        "this is a Standard Extended SOP Class",
    }
)


def derived_of(source: Dataset, derivation: Derivation, hu_change: float = 0.0) -> Any:
    """Derive, write, and read back."""
    derived = derive(source, to_hu(source) + np.float32(hu_change), derivation, STARTED, NOW)
    return dcmread(BytesIO(encode(derived)))


def read_back(source: Dataset) -> Any:
    return dcmread(BytesIO(part10(source)))


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_source_is_not_edited(derivation: Derivation) -> None:
    source = ct_dataset(DerivationCodeSequence=[item(CodeValue="1")], ContributingEquipmentSequence=[item()])
    before = deepcopy(source)
    derive(source, to_hu(source) + 1, derivation, STARTED, NOW)
    assert source == before
    assert part10(source) == part10(before)


def test_same_inputs_give_the_same_bytes(derivation: Derivation) -> None:
    first, second = (encode(derive(ct_dataset(), to_hu(ct_dataset()), derivation, STARTED, NOW)) for _ in range(2))
    assert first == second


def test_new_identity_is_shared_by_the_series(derivation: Derivation) -> None:
    derived = [derived_of(source, derivation) for source in ct_series(3)]
    assert len({each.SOPInstanceUID for each in derived}) == 3
    assert len({each.SeriesInstanceUID for each in derived}) == 1
    assert len({each.SeriesNumber for each in derived}) == 1
    assert derived[0].SeriesInstanceUID not in (f"{ROOT}.2", derived[0].SOPInstanceUID)
    assert {each.StudyInstanceUID for each in derived} == {f"{ROOT}.1"}


def test_everything_else_is_kept(derivation: Derivation) -> None:
    source = read_back(ct_dataset(TimezoneOffsetFromUTC="+0100", ConvolutionKernel="B30f", CTDIvol=3.2))
    derived = derived_of(source, derivation, hu_change=7)
    kept = [element for element in source if element.keyword not in MADE_NEW]
    assert len(kept) > 35
    for element in kept:
        assert derived[element.tag] == element
    assert {element.keyword for element in derived} - {element.keyword for element in source} <= MADE_NEW


def test_pixels_are_the_processed_ones(derivation: Derivation) -> None:
    source = ct_dataset(RescaleSlope=2, SmallestImagePixelValue=0, LargestImagePixelValue=0)
    derived = derived_of(source, derivation, hu_change=20)
    assert (derived.pixel_array == source.pixel_array + 10).all()
    assert derived.SmallestImagePixelValue == source.pixel_array.min() + 10
    assert derived.LargestImagePixelValue == source.pixel_array.max() + 10


def test_identity_keeps_the_pixel_bytes(derivation: Derivation) -> None:
    assert derived_of(ct_dataset(), derivation).PixelData == ct_dataset().PixelData


def test_extremes_are_not_invented_and_those_of_the_series_go(derivation: Derivation) -> None:
    source = ct_dataset()
    source.add_new("SmallestPixelValueInSeries", "SS", -5)
    source.add_new("LargestPixelValueInSeries", "SS", 5)
    derived = derived_of(source, derivation)
    assert "SmallestImagePixelValue" not in derived
    assert "SmallestPixelValueInSeries" not in derived
    assert "LargestPixelValueInSeries" not in derived


@pytest.mark.parametrize(
    ("image_type", "expected"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]),
        (["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]),
        (["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]),
        (None, ["DERIVED", "PRIMARY", "AXIAL"]),
    ],
)
def test_image_type(image_type: list[str] | None, expected: list[str], derivation: Derivation) -> None:
    assert derived_of(ct_dataset(ImageType=image_type), derivation).ImageType == expected


@pytest.mark.parametrize(
    ("source", "suffix", "expected"),
    [
        ("THORAX", " ISCL", "THORAX ISCL"),
        (None, " ISCL", "ISCL"),
        ("", " ISCL", "ISCL"),
        ("X" * 64, " ISCL", "X" * 59 + " ISCL"),
        ("a\\b", " ISCL", "a b ISCL"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_series_description(source: str | None, suffix: str, expected: str, derivation: Derivation) -> None:
    dataset = ct_dataset(SeriesDescription=source)
    assert derived_of(dataset, replace(derivation, suffix=suffix)).SeriesDescription == expected


def test_series_description_is_cut_by_characters_not_bytes(derivation: Derivation) -> None:
    derived = derived_of(ct_dataset(SpecificCharacterSet="ISO_IR 192", SeriesDescription="胸" * 64), derivation)
    assert derived.SeriesDescription == "胸" * 59 + " ISCL"
    assert derived.SpecificCharacterSet == "ISO_IR 192"


def test_times(derivation: Derivation) -> None:
    derived = derived_of(ct_dataset(AcquisitionDate="20240101"), derivation)
    assert (derived.SeriesDate, derived.SeriesTime) == ("20260301", "110000.000000")
    assert (derived.ContentDate, derived.ContentTime) == ("20260301", "123005.250000")
    assert (derived.InstanceCreationDate, derived.InstanceCreationTime) == ("20260301", "123005.250000")
    assert (derived.StudyDate, derived.AcquisitionDate) == ("20240101", "20240101")
    assert "TimezoneOffsetFromUTC" not in derived


@pytest.mark.parametrize(
    ("offset", "date", "time"),
    [("+1300", "20260302", "013005.250000"), ("-0530", "20260301", "070005.250000")],
)
def test_times_are_in_the_zone_of_the_source(offset: str, date: str, time: str, derivation: Derivation) -> None:
    derived = derived_of(ct_dataset(TimezoneOffsetFromUTC=offset), derivation)
    assert (derived.ContentDate, derived.ContentTime, derived.TimezoneOffsetFromUTC) == (date, time, offset)


@pytest.mark.parametrize(
    ("source", "offset"),
    [
        ({}, "+1300"),
        ({"StudyDate": "20260115", "AcquisitionDate": "no date"}, "+1300"),
        ({"StudyDate": "20250715"}, None),
        ({"TimezoneOffsetFromUTC": ""}, ""),
    ],
    ids=["no dates", "in summer as well", "in winter", "the source says nothing"],
)
def test_times_are_in_the_zone_of_the_site(source: dict[str, str], offset: str | None, derivation: Derivation) -> None:
    at_site = replace(derivation, site=Site(time_zone="Pacific/Auckland"))
    dates = dict.fromkeys(("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"), "")
    derived = derived_of(ct_dataset(**(dates | source)), at_site)
    assert (derived.ContentDate, derived.ContentTime[:6]) == ("20260302", "013005")
    assert derived.get("TimezoneOffsetFromUTC") == offset


def test_the_zone_of_the_source_goes_before_that_of_the_site(derivation: Derivation) -> None:
    at_site = replace(derivation, site=Site(time_zone="Pacific/Auckland"))
    derived = derived_of(ct_dataset(TimezoneOffsetFromUTC="-0530"), at_site)
    assert (derived.ContentTime[:6], derived.TimezoneOffsetFromUTC) == ("070005", "-0530")


def test_derivation_is_told(derivation: Derivation) -> None:
    derived = derived_of(ct_dataset(DerivationDescription="MPR"), derivation)
    for part in ("ISCL abdomen 1.2.3", "5f" * 32, "profile abdomen", "strength 1", "0.1.0", "not for diagnosis", "MPR"):
        assert part in derived.DerivationDescription
    code = derived.DerivationCodeSequence[-1]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("113087", "DCM", "Smoothing")
    assert derived.ContentQualification == "RESEARCH"


def test_derivation_description_has_at_most_1024_characters(derivation: Derivation) -> None:
    assert len(derived_of(ct_dataset(DerivationDescription="x" * 1024), derivation).DerivationDescription) == 1024


def test_source_is_referenced(derivation: Derivation) -> None:
    derived = derived_of(ct_dataset(), derivation)
    image = derived.SourceImageSequence[0]
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (CT_IMAGE, f"{ROOT}.3.1")
    assert image.SpatialLocationsPreserved == "YES"
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    referenced = derived.ReferencedSeriesSequence[-1]
    assert referenced.SeriesInstanceUID == f"{ROOT}.2"
    assert referenced.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == f"{ROOT}.3.1"
    related = derived.RelatedSeriesSequence[-1]
    assert (related.StudyInstanceUID, related.SeriesInstanceUID) == (f"{ROOT}.1", f"{ROOT}.2")
    assert related.PurposeOfReferenceCodeSequence[0].CodeValue == "121323"


def test_contributing_equipment(derivation: Derivation) -> None:
    node = derived_of(ct_dataset(), derivation).ContributingEquipmentSequence[-1]
    assert node.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (node.Manufacturer, node.ManufacturerModelName) == ("ISCL Node developers", "ISCL Node")
    assert "5f" * 32 in node.SoftwareVersions
    assert node.ContributionDateTime == "20260301123005.250000+0000"
    assert node.DeviceUID.startswith("2.25.")


def test_older_steps_are_kept(derivation: Derivation) -> None:
    source = ct_dataset(
        DerivationCodeSequence=[item(CodeValue="113040")],
        ContributingEquipmentSequence=[item(Manufacturer="Other")],
        RelatedSeriesSequence=[item(StudyInstanceUID="1.2", SeriesInstanceUID="1.3")],
    )
    derived = derived_of(source, derivation)
    assert [code.CodeValue for code in derived.DerivationCodeSequence] == ["113040", "113087"]
    assert [each.Manufacturer for each in derived.ContributingEquipmentSequence] == ["Other", "ISCL Node developers"]
    assert len(derived.RelatedSeriesSequence) == 2


def test_own_output_is_recognised_and_never_processed_again(derivation: Derivation) -> None:
    derived = derived_of(ct_dataset(), derivation)
    assert is_own_output(derived)
    assert not is_own_output(ct_dataset())
    with pytest.raises(IgnoreSeriesError, match="this node"):
        select_series([derived])


def test_what_describes_the_old_pixels_is_removed(derivation: Derivation) -> None:
    source = ct_dataset(IconImageSequence=[item(Rows=1)], DigitalSignaturesSequence=[item(MACIDNumber=1)])
    source.MACParametersSequence = [item(MACIDNumber=1)]
    source.DataSetTrailingPadding = b"\0\0"
    source.add_new(0x00100000, "UL", 4)
    source.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x27, "SH", "/3.0:1")
    source.RequestAttributesSequence = [item(ScheduledProcedureStepID="1")]
    source.RequestAttributesSequence[0].private_block(0x0009, "X", create=True).add_new(1, "LO", "Y")
    derived = derived_of(read_back(source), derivation)
    for keyword in (
        "IconImageSequence",
        "DigitalSignaturesSequence",
        "MACParametersSequence",
        "DataSetTrailingPadding",
    ):
        assert keyword not in derived
    tags = {element.tag for element in derived.iterall()}
    assert not [tag for tag in tags if tag.is_private or tag.element == 0]
    assert derived.RequestAttributesSequence[0].ScheduledProcedureStepID == "1"


def test_overlays_in_the_pixel_bits_go_and_others_stay(derivation: Derivation) -> None:
    source = ct_dataset()
    for group in (0x6000, 0x6002):
        source.add_new((group, 0x0010), "US", 64)
        source.add_new((group, 0x0102), "US", 0)
    source.add_new((0x6002, 0x3000), "OW", b"\0" * 512)
    derived = derived_of(source, derivation)
    assert {element.tag.group for element in derived if element.tag.group >= 0x6000} == {0x6002, 0x7FE0}


def test_padding_is_restored(derivation: Derivation) -> None:
    pixels = np.array([[-2000, 1000], [0, 5]], dtype=np.int16)
    derived = derived_of(ct_dataset(pixels, PixelPaddingValue=-2000), derivation, hu_change=3)
    assert derived.pixel_array.tolist() == [[-2000, 1003], [3, 8]]
    assert derived.PixelPaddingValue == -2000


def test_file_meta(derivation: Derivation) -> None:
    meta = derived_of(ct_dataset(), derivation).file_meta
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert meta.ImplementationVersionName == "ISCL_NODE_0.1.0"
    assert meta.ImplementationClassUID.startswith("2.25.")


def test_compressed_source_gives_native_result(derivation: Derivation) -> None:
    native, source = ct_dataset(), ct_dataset()
    source.compress(RLELossless, generate_instance_uid=False)
    derived = derived_of(read_back(source), derivation)
    assert derived.PixelData == native.PixelData
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert "LossyImageCompression" not in derived


def test_implicit_source_gives_explicit_result(derivation: Derivation) -> None:
    source = ct_dataset(PixelPaddingValue=-2000, RequestAttributesSequence=[item(ScheduledProcedureStepID="1")])
    source["PixelPaddingValue"].VR = "SS"
    source.file_meta = file_meta_of(source, ImplicitVRLittleEndian)
    stream = BytesIO()
    dcmwrite(stream, source, enforce_file_format=True, implicit_vr=True)
    derived = derived_of(dcmread(BytesIO(stream.getvalue())), derivation)
    assert derived.PixelPaddingValue == -2000
    assert derived.PatientName == "Test^Case"
    assert derived.RequestAttributesSequence[0].ScheduledProcedureStepID == "1"


@pytest.mark.parametrize("value", ["00", "01"])
def test_lossy_history_is_kept(value: str, derivation: Derivation) -> None:
    source = ct_dataset(LossyImageCompression=value, LossyImageCompressionRatio=10)
    derived = derived_of(source, derivation)
    assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == (value, 10)


def test_lossy_transfer_syntax_is_remembered(derivation: Derivation, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ct_dataset()
    hu, stored = to_hu(source), source.pixel_array.astype(np.int32)
    source.file_meta = file_meta_of(source, JPEGBaseline8Bit)
    monkeypatch.setattr("iscl_node.dicom.deriving.derived.stored_values", lambda _: stored)
    monkeypatch.setattr("iscl_node.dicom.deriving.derived.padding_mask", lambda _: stored < -3000)
    assert derive(source, hu, derivation, STARTED, NOW).LossyImageCompression == "01"


@pytest.mark.parametrize(
    ("method", "ratio", "expected"),
    [
        (None, None, ("ISO_15444_1", 8192 / 5000)),
        ("ISO_10918_1", None, ("ISO_10918_1", 8192 / 5000)),
        (None, 7, ("ISO_15444_1", 7)),
        (None, [10, 3], (None, [10, 3])),
        (["ISO_10918_1", "ISO_15444_1"], None, (["ISO_10918_1", "ISO_15444_1"], None)),
    ],
)
def test_what_is_not_told_of_a_loss_is_that_of_the_pixels(
    method: str | list[str] | None, ratio: float | list[float] | None, expected: tuple[Any, Any]
) -> None:
    source = ct_dataset()
    source.file_meta = file_meta_of(source, JPEG2000)
    source.PixelData = bytes(5000)
    told = Dataset()
    told.LossyImageCompression = "01"
    told.LossyImageCompressionMethod, told.LossyImageCompressionRatio = method, ratio
    keep_loss_history(told, source)
    found = told.LossyImageCompressionMethod, told.LossyImageCompressionRatio
    assert found == (expected[0], expected[1] and pytest.approx(expected[1], abs=0.005))


@pytest.mark.parametrize(("told", "expected"), [("00", "00"), ("", "01"), (None, "01"), ("01", "01")])
def test_only_a_source_that_denies_a_loss_is_believed(told: str | None, expected: str, derivation: Derivation) -> None:
    """JPEG 2000 (PS3.5 A.4.4) may be lossless in the transfer syntax that is named after its loss."""
    source = ct_dataset(LossyImageCompression=told)
    source.compress(JPEG2000Lossless, generate_instance_uid=False)
    source.file_meta.TransferSyntaxUID = JPEG2000
    assert derived_of(read_back(source), derivation).LossyImageCompression == expected


def test_text_is_kept_byte_for_byte_even_when_it_is_invalid(derivation: Derivation) -> None:
    """A name in another character set than the declared one must not become question marks."""
    stream = part10(ct_dataset(SpecificCharacterSet="ISO_IR 192", PatientName="ABCDEFGH^IJ"))
    broken = stream.replace(b"ABCDEFGH^IJ", b"AB\xfc\xe4DEFGH^I")
    derived = derive(dcmread(BytesIO(broken)), to_hu(ct_dataset()), derivation, STARTED, NOW)
    assert b"AB\xfc\xe4DEFGH^I" in encode(derived)


@pytest.mark.parametrize("depth", [MOST_NESTED, MOST_NESTED + 1, 1000])
def test_sequences_nested_too_deeply_quarantine_the_series(depth: int, derivation: Derivation) -> None:
    """Reception does not look into sequences of known length; 1000 are beyond what Python can follow."""
    sequences = b""
    for _ in range(depth):
        nested = b"\xfe\xff\x00\xe0" + len(sequences).to_bytes(4, "little") + sequences
        sequences = b"\x40\x00\x75\x02SQ\0\0" + len(nested).to_bytes(4, "little") + nested
    stream = part10(ct_dataset()).replace(b"\xe0\x7f\x10\x00OW", sequences + b"\xe0\x7f\x10\x00OW")
    source = dcmread(BytesIO(stream))
    if depth > MOST_NESTED:
        with pytest.raises(QuarantineSeriesError, match=f"is nested in {MOST_NESTED} others"):
            derived_of(source, derivation)
    else:
        assert sequences in encode(deepcopy(derive(source, to_hu(source), derivation, STARTED, NOW)))


def test_synthetic_series_has_no_complaints(
    derivation: Derivation, complaints: Callable[[bytes], Counter[str]]
) -> None:
    for source in ct_series(2, SmallestImagePixelValue=0, PixelPaddingValue=None):
        assert set(complaints(encode(derive(source, to_hu(source), derivation, STARTED, NOW)))) <= KNOWN_WARNINGS
