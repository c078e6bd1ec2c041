"""The derived multi-frame instance: what it tells by frame, what is kept, and that a validator and readers agree."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from factories import ROOT, part10
from multiframe import converted, enhanced_ct, item, legacy_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from validator import DEVICE_UID

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.deriving.enhanced import derived_frame_type
from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.domain import Derivation
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError

STARTED = datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 30, 5, 250000, tzinfo=UTC)

MADE_NEW = frozenset(
    """SOPInstanceUID SeriesInstanceUID InstanceCreatorUID SeriesNumber SeriesDescription ImageType ContentQualification
    SeriesDate SeriesTime InstanceCreationDate InstanceCreationTime ContentDate ContentTime SourceImageEvidenceSequence
    ReferencedSeriesSequence RelatedSeriesSequence ContributingEquipmentSequence SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence PixelData""".split()  # noqa: SIM905
)
BOTH = pytest.mark.parametrize("make", [enhanced_ct, legacy_ct])


def derived_of(source: Dataset, derivation: Derivation, hu_change: float = 0.0) -> Any:
    """Derive, write, and read back."""
    slices = (to_hu(view) + np.float32(hu_change) for view in frames(source))
    return dcmread(BytesIO(encode(derive(source, slices, derivation, STARTED, NOW))))


def frame_type_group(*frame_type: str) -> dict[str, Any]:
    return {"CTImageFrameTypeSequence": {"FrameType": list(frame_type)}}


def frame_types_of(derived: Dataset) -> list[list[str]]:
    return [list(view.ImageType) for view in frames(derived)]


@BOTH
def test_identity_keeps_the_pixel_bytes(make: Callable[[], Any], derivation: Derivation) -> None:
    source = make()
    derived = derived_of(source, derivation)
    assert derived.PixelData == source.PixelData
    assert (derived.SOPClassUID, derived.NumberOfFrames) == (source.SOPClassUID, 3)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("is_signed", [False, True])
def test_identity_keeps_the_pixel_bytes_in_any_form(bits: int, is_signed: bool, derivation: Derivation) -> None:
    low = -(1 << bits - 1) if is_signed else 0
    kind = np.int16 if is_signed else np.uint16
    pixels = np.random.default_rng(0).integers(low, low + (1 << bits), (2, 5, 7)).astype(kind)
    slopes = [{"PixelValueTransformationSequence": transformation(slope)} for slope in (0.5, 3)]
    form = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(is_signed)}
    source = enhanced_ct(2, pixels, per_frame=slopes, **form)
    assert derived_of(source, derivation).PixelData == source.PixelData


def transformation(slope: float) -> dict[str, Any]:
    return {"RescaleSlope": slope, "RescaleIntercept": -1024, "RescaleType": "HU"}


def test_each_frame_has_its_own_rescale_and_padding(derivation: Derivation) -> None:
    pixels = np.array([[[-2000, 1000]], [[7, -2000]]], dtype=np.int16)
    slopes = [{"PixelValueTransformationSequence": transformation(slope)} for slope in (1, 2)]
    source = enhanced_ct(2, pixels, per_frame=slopes, PixelPaddingValue=-2000, SmallestImagePixelValue=0)
    derived = derived_of(source, derivation, hu_change=20)
    assert derived.pixel_array.tolist() == [[[-2000, 1020]], [[17, -2000]]]
    assert [view.RescaleSlope for view in frames(derived)] == [1, 2]
    assert derived.SmallestImagePixelValue == -2000
    assert "RescaleSlope" not in derived


@BOTH
def test_everything_else_is_kept(make: Callable[[], Any], derivation: Derivation) -> None:
    source = dcmread(BytesIO(part10(make())))
    derived = derived_of(source, derivation)
    assert {element.keyword for element in derived} - {element.keyword for element in source} <= MADE_NEW
    for element in source:
        if element.keyword not in MADE_NEW:
            assert derived[element.tag] == element
    for before, after in zip(groups_of(source), groups_of(derived), strict=True):
        assert {each.keyword for each in after} - {each.keyword for each in before} <= {"DerivationImageSequence"}
        assert all(after[each.tag] == each for each in before if each.keyword != "CTImageFrameTypeSequence")


def groups_of(multiframe: Dataset) -> list[Dataset]:
    return [*multiframe.SharedFunctionalGroupsSequence, *multiframe.PerFrameFunctionalGroupsSequence]


def test_new_identity_and_times(derivation: Derivation) -> None:
    derived = derived_of(enhanced_ct(), derivation)
    assert derived.SOPInstanceUID != derived.SeriesInstanceUID
    assert derived.SOPInstanceUID.startswith("2.25.")
    assert (derived.SeriesDate, derived.SeriesTime, derived.ContentTime) == (
        "20260301",
        "110000.000000",
        "123005.250000",
    )
    assert (derived.StudyDate, derived.AcquisitionDateTime) == ("20240101", "20240101101600")
    assert derived.SeriesDescription == "THORAX ISCL"
    assert derived.ContentQualification == "RESEARCH"
    assert derived.ContributingEquipmentSequence[-1].ManufacturerModelName == "ISCL Node"
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@BOTH
def test_each_frame_names_its_source_frame(make: Callable[[], Any], derivation: Derivation) -> None:
    source = make()
    derived = derived_of(source, derivation)
    for number, groups in enumerate(derived.PerFrameFunctionalGroupsSequence, start=1):
        (derivation_image,) = groups.DerivationImageSequence
        (image,) = derivation_image.SourceImageSequence
        assert image.ReferencedFrameNumber == number
        assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (
            source.SOPClassUID,
            source.SOPInstanceUID,
        )
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert image.SpatialLocationsPreserved == "YES"
        assert [code.CodeValue for code in derivation_image.DerivationCodeSequence] == ["113087"]
        assert "strength 1" in derivation_image.DerivationDescription
    for keyword in ("DerivationDescription", "DerivationCodeSequence", "SourceImageSequence"):
        assert keyword not in derived


@BOTH
def test_the_source_is_evidence(make: Callable[[], Any], derivation: Derivation) -> None:
    source = make()
    derived = derived_of(source, derivation)
    (evidence,) = derived.SourceImageEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert evidence.StudyInstanceUID == source.StudyInstanceUID
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert derived.ReferencedSeriesSequence[-1].SeriesInstanceUID == source.SeriesInstanceUID


def test_the_image_that_a_legacy_frame_was_converted_from_stays_named(derivation: Derivation) -> None:
    converted = [groups.ConversionSourceAttributesSequence[0] for groups in groups_of(legacy_ct())[1:]]
    derived = derived_of(legacy_ct(), derivation)
    assert [groups.ConversionSourceAttributesSequence[0] for groups in groups_of(derived)[1:]] == converted
    assert [each.SeriesInstanceUID for each in derived.ReferencedSeriesSequence] == [f"{ROOT}.2", f"{ROOT}.32"]


def test_extremes_of_the_converted_pixels_go(derivation: Derivation) -> None:
    source = legacy_ct(2)
    own = source.PerFrameFunctionalGroupsSequence[0].UnassignedPerFrameConvertedAttributesSequence[0]
    shared = source.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence[0]
    own.add_new("SmallestImagePixelValue", "SS", 5)
    shared.add_new("LargestImagePixelValue", "SS", 900)
    derived = derived_of(source, derivation)
    assert not [each for each in derived.iterall() if "ImagePixelValue" in each.keyword]
    assert (
        "InstanceNumber" in derived.PerFrameFunctionalGroupsSequence[0].UnassignedPerFrameConvertedAttributesSequence[0]
    )


@pytest.mark.parametrize("is_shared", [False, True])
def test_older_derivations_stay_in_front(is_shared: bool, derivation: Derivation) -> None:
    source = enhanced_ct(2)
    older = item(DerivationCodeSequence={"CodeValue": "113072"}, SourceImageSequence=[])
    source.SourceImageEvidenceSequence = [item(StudyInstanceUID="1.2")]
    for groups in source.SharedFunctionalGroupsSequence if is_shared else source.PerFrameFunctionalGroupsSequence:
        groups.DerivationImageSequence = Sequence([older])
    derived = derived_of(source, derivation)
    assert "DerivationImageSequence" not in derived.SharedFunctionalGroupsSequence[0]
    for groups in derived.PerFrameFunctionalGroupsSequence:
        codes = [each.DerivationCodeSequence[0].CodeValue for each in groups.DerivationImageSequence]
        assert codes == ["113072", "113087"]
    assert len(derived.SourceImageEvidenceSequence) == 2


def test_what_the_whole_image_told_of_itself_stays(derivation: Derivation) -> None:
    """These attributes are not part of Enhanced CT, but some senders add them."""
    derived = derived_of(enhanced_ct(DerivationDescription="MPR"), derivation)
    assert derived.DerivationDescription == "MPR"
    assert "MPR" in derived.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].DerivationDescription


@pytest.mark.parametrize(
    ("frame_type", "expected"),
    [
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], ["DERIVED", "PRIMARY", "VOLUME", "FILTERED"]),
        (["MIXED", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]),
        (["DERIVED", "SECONDARY", "VOLUME", "MEAN", "VMI"], ["DERIVED", "SECONDARY", "VOLUME", "MEAN", "VMI"]),
        ("ORIGINAL", ["DERIVED"]),
        (None, ["DERIVED", "PRIMARY", "VOLUME", "FILTERED"]),
    ],
)
def test_frame_type(frame_type: Any, expected: list[str]) -> None:
    assert derived_frame_type(frame_type) == expected


@pytest.mark.parametrize(
    ("contrasts", "image_type", "expected"),
    [
        (("NONE", "NONE"), "NONE", "FILTERED"),
        (("NONE", "FILTERED"), "MIXED", "FILTERED"),
        (("NONE", "MAXIMUM"), "MIXED", "MIXED"),
    ],
)
def test_image_type_sums_up_the_frames(
    contrasts: tuple[str, ...], image_type: str, expected: str, derivation: Derivation
) -> None:
    types = [frame_type_group("ORIGINAL", "PRIMARY", "VOLUME", contrast) for contrast in contrasts]
    derived = derived_of(
        enhanced_ct(2, per_frame=types, ImageType=["MIXED", "PRIMARY", "VOLUME", image_type]), derivation
    )
    assert derived.ImageType == ["DERIVED", "PRIMARY", "VOLUME", expected]
    assert {each[0] for each in frame_types_of(derived)} == {"DERIVED"}


@BOTH
def test_source_is_not_edited(make: Callable[[], Any], derivation: Derivation) -> None:
    source = make()
    before = part10(source)
    derived_of(source, derivation, hu_change=1)
    assert part10(source) == before


@pytest.mark.parametrize("count", [0, 2, 4])
def test_one_slice_for_each_frame(count: int, derivation: Derivation) -> None:
    source = enhanced_ct(3)
    slices = [to_hu(frames(source)[0])] * count
    with pytest.raises(QuarantineSeriesError, match="3 frames, but"):
        derive(source, slices, derivation, STARTED, NOW)


def test_compressed_source_gives_native_result(derivation: Derivation) -> None:
    source = enhanced_ct()
    source.compress(RLELossless, generate_instance_uid=False)
    assert derived_of(dcmread(BytesIO(part10(source))), derivation).PixelData == enhanced_ct().PixelData


def test_own_output_is_never_processed_again(derivation: Derivation) -> None:
    derived = derived_of(enhanced_ct(), derivation)
    assert is_own_output(derived)
    with pytest.raises(IgnoreSeriesError, match="this node"):
        select_series([derived])


@BOTH
def test_the_validator_finds_nothing_worse(
    make: Callable[[], Any], derivation: Derivation, complaints: Callable[[bytes], Counter[str]]
) -> None:
    source = make()
    stream = encode(derive(source, map(to_hu, frames(source)), derivation, STARTED, NOW))
    read_header(stream)
    found = complaints(stream)
    assert not [each for each in found if each.startswith("Error")]
    assert set(found - complaints(part10(source))) <= DEVICE_UID


def test_the_validator_finds_nothing_worse_in_a_real_perfusion_map(
    derivation: Derivation, complaints: Callable[[bytes], Counter[str]]
) -> None:
    """It is not in HU, so ``select_series`` refuses it, but it has the structure that a scanner's vendor gave it."""
    path = Path(str(get_testdata_file("eCT_Supplemental.dcm", download=False)))
    check_nothing_is_worse(dcmread(path), path.read_bytes(), derivation, complaints)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_validator_finds_nothing_worse_in_conversions_of_real_images(
    shared_ct: list[Path], derivation: Derivation, complaints: Callable[[bytes], Counter[str]]
) -> None:
    tilted = [path for path in shared_ct if "tilt" in path.parent.name][:3]
    for paths in ([shared_ct[0]], tilted):
        source = converted([dcmread(path) for path in paths])
        check_nothing_is_worse(source, part10(source), derivation, complaints)


def check_nothing_is_worse(
    source: Dataset, stream: bytes, derivation: Derivation, complaints: Callable[[bytes], Counter[str]]
) -> None:
    derived = encode(derive(source, map(to_hu, frames(source)), derivation, STARTED, NOW))
    assert set(complaints(derived) - complaints(stream)) <= DEVICE_UID
    np.testing.assert_array_equal(dcmread(BytesIO(derived)).pixel_array, source.pixel_array)


@BOTH
def test_highdicom_reads_the_result(make: Callable[[], Any], derivation: Derivation, tmp_path: Path) -> None:
    source = make()
    path = tmp_path / "derived.dcm"
    path.write_bytes(encode(derive(source, map(to_hu, frames(source)), derivation, STARTED, NOW)))
    volume = highdicom.imread(path).get_volume()
    expected = {float(view.ImagePositionPatient[2]): to_hu(view) for view in frames(source)}
    assert volume.spatial_shape == (3, 64, 64)
    for index, slice_hu in enumerate(volume.array):
        z = volume.map_indices_to_reference(np.array([[index, 0, 0]]))[0, 2]
        np.testing.assert_array_equal(slice_hu, expected[round(float(z), 3)])
