"""The removed noise as Parametric Maps: values, references, identity, validity, and series that are not simple."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from factories import CT_IMAGE, ROOT, ct_dataset, ct_series, file_meta_of, part10
from highdicom.pm import ParametricMap
from multiframe import enhanced_ct, legacy_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian
from validator import DEVICE_UID, LATERALITY

from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.evidence import noise_map as module
from iscl_node.dicom.evidence.noise_map import map_groups, noise_map, noise_map_uid
from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.uids import SERIES, derived_uid
from iscl_node.domain import Derivation

STARTED = datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC)

Complaints = Callable[[bytes], Counter[str]]


def noise_like(views: Sequence[Dataset]) -> npt.NDArray[np.float32]:
    shape = (len(views), int(views[0].Rows), int(views[0].Columns))
    return np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)


def read_map(views: Sequence[Dataset], derivation: Derivation) -> Any:
    """Build, write, and read back with highdicom."""
    made = noise_map(views, noise_like(views), derivation, STARTED, 1)
    return ParametricMap.from_dataset(dcmread(BytesIO(encode(made))))


@pytest.mark.parametrize("order", [1, -1])
def test_values_are_read_back_exactly_by_their_source(derivation: Derivation, order: int) -> None:
    views = ct_series(4)[::order]
    found = read_map(views, derivation)
    uids = [view.SOPInstanceUID for view in views]
    pixels = found.get_pixels_by_source_instance(uids, apply_real_world_transform=True, dtype=np.float32)
    np.testing.assert_array_equal(pixels, noise_like(views))


def test_values_are_named_as_hounsfield_units(derivation: Derivation) -> None:
    shared = read_map(ct_series(2), derivation).SharedFunctionalGroupsSequence[0]
    (mapping,) = shared.RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    unit = mapping.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[hnsf'U]", "UCUM")
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("112031", "DCM")
    assert shared.ParametricMapFrameTypeSequence[0].FrameType == ["DERIVED", "PRIMARY", "VOLUME", "SUBTRACTION"]


@pytest.mark.parametrize(
    ("told", "syntax", "expected"),
    [
        (None, JPEG2000, ("01", "ISO_15444_1", 8192 / 4000)),
        ("00", JPEG2000, ("00", None, None)),
        (None, ExplicitVRLittleEndian, ("00", None, None)),
    ],
)
def test_loss_that_only_the_transfer_syntax_tells_of_is_told(
    told: str | None, syntax: str, expected: tuple[Any, ...], derivation: Derivation
) -> None:
    views = ct_series(2, LossyImageCompression=told)
    for view in views:
        view.file_meta = file_meta_of(view, syntax)
        view.PixelData = bytes(4000)
    found = read_map(views, derivation)
    keywords = ("LossyImageCompression", "LossyImageCompressionMethod", "LossyImageCompressionRatio")
    assert tuple(found.get(keyword) for keyword in keywords) == (
        *expected[:2],
        expected[2] and pytest.approx(expected[2], abs=0.005),
    )


def test_each_frame_says_from_which_slice_and_how_it_was_made(derivation: Derivation) -> None:
    views = ct_series(3)
    positions = {view.SOPInstanceUID: list(view.ImagePositionPatient) for view in views}
    found = read_map(views, derivation)
    for item in found.PerFrameFunctionalGroupsSequence:
        made = item.DerivationImageSequence[0]
        source = made.SourceImageSequence[0]
        assert made.DerivationCodeSequence[0].CodeValue == "113062"
        assert source.ReferencedSOPClassUID == CT_IMAGE
        assert source.SpatialLocationsPreserved == "YES"
        assert item.PlanePositionSequence[0].ImagePositionPatient == positions.pop(source.ReferencedSOPInstanceUID)
    assert not positions
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == f"{ROOT}.2"
    assert len(series.ReferencedInstanceSequence) == len(found.SourceImageSequence) == 3


@pytest.mark.parametrize("make", [enhanced_ct, legacy_ct])
def test_frames_of_one_instance_are_told_by_their_number(
    make: Callable[[int], Dataset], derivation: Derivation, complaints: Complaints
) -> None:
    source = make(3)
    views = frames(source)
    found = read_map(views, derivation)
    pixels = found.get_pixels_by_source_frame(
        source.SOPInstanceUID, [1, 2, 3], apply_real_world_transform=True, dtype=np.float32
    )
    np.testing.assert_array_equal(pixels, noise_like(views))
    assert len(found.SourceImageSequence) == 1
    made = encode(noise_map(views, noise_like(views), derivation, STARTED, 1))
    assert set(complaints(made) - complaints(part10(source))) <= DEVICE_UID | LATERALITY
    assert noise_map_uid(views[:1], derivation) != noise_map_uid(views[1:2], derivation)


def test_identity(derivation: Derivation) -> None:
    source = ct_series(1)[0]
    found = read_map([source], derivation)
    assert found.SOPInstanceUID == noise_map_uid([source], derivation)
    assert found.SeriesInstanceUID not in (source.SeriesInstanceUID, derived_uid(f"{ROOT}.2", derivation, SERIES))
    assert (found.StudyInstanceUID, found.FrameOfReferenceUID) == (f"{ROOT}.1", f"{ROOT}.4")
    assert found.SeriesDescription == "THORAX ISCL noise map"
    assert 3750 <= found.SeriesNumber <= 3874
    assert found.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "SUBTRACTION"]
    assert found.ContentQualification == "RESEARCH"
    assert (found.Manufacturer, found.ManufacturerModelName) == ("ISCL Node developers", "ISCL Node")
    assert (found.ContentDate, found.SeriesTime) == ("20260301", "110000.000000")
    assert is_own_output(found)


def test_the_same_sources_give_the_same_bytes(derivation: Derivation) -> None:
    views = ct_series(2)
    first, second = (encode(noise_map(views, noise_like(views), derivation, STARTED, 1)) for _ in range(2))
    assert first == second


def test_patient_and_study_are_kept_byte_for_byte_even_when_highdicom_would_refuse_them(derivation: Derivation) -> None:
    source = ct_dataset(SpecificCharacterSet="ISO_IR 192", PatientName="ABCDEFGH^IJ", PatientID="X1")
    stream = part10(source).replace(b"ABCDEFGH^IJ", b"AB\xfc\xe4DEFGH^I").replace(b"101500", b"10.5x0")
    broken = dcmread(BytesIO(stream.replace(b"CS\x02\x00O ", b"CS\x02\x00??")))
    made = encode(noise_map([broken], noise_like([broken]), derivation, STARTED, 1))
    assert all(value in made for value in (b"AB\xfc\xe4DEFGH^I", b"10.5x0", b"CS\x02\x00??"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[0, 1, 2]]),
        ({"ImagePositionPatient": [0, 0, 7]}, [[0], [1], [2]]),
        ({"FrameOfReferenceUID": None}, [[0, 1, 2]]),
        ({"SliceThickness": None}, [[0, 1, 2]]),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.96, -0.28]}, [[0, 1, 2]]),
    ],
)
def test_what_a_map_cannot_hold_together_is_split_and_stays_valid(
    changes: dict[str, Any], expected: list[list[int]], derivation: Derivation, complaints: Complaints
) -> None:
    views = ct_series(3, **changes)
    assert map_groups(views) == expected
    group = [views[index] for index in expected[0]]
    made = encode(noise_map(group, noise_like(group), derivation, STARTED, 1))
    assert set(complaints(made)) <= DEVICE_UID
    assert ParametricMap.from_dataset(dcmread(BytesIO(made))).NumberOfFrames == len(group)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_whose_place_is_not_known_has_no_map(keyword: str) -> None:
    views = ct_series(3)
    delattr(views[1], keyword)
    assert map_groups(views) == [[0, 2]]


def test_a_change_of_orientation_begins_a_map() -> None:
    views = [*ct_series(2), *ct_series(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])]
    assert map_groups(views) == [[0, 1], [2], [3]]  # the coronal ones have no distance along their normal


def test_unequal_distances_share_a_map(derivation: Derivation) -> None:
    views = ct_series(3)
    views[2].ImagePositionPatient = [-32.0, -32.0, 9.5]
    assert map_groups(views) == [[0, 1, 2]]
    found = read_map(views, derivation)
    assert "SpacingBetweenSlices" not in found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 2 * 64 * 64)
    assert map_groups(ct_series(5)) == [[0, 1], [2, 3], [4]]


def test_a_map_of_nothing_removed_is_valid(derivation: Derivation, complaints: Complaints) -> None:
    views = ct_series(2)
    made = encode(noise_map(views, np.zeros((2, 64, 64), np.float32), derivation, STARTED, 1))
    assert set(complaints(made)) <= DEVICE_UID


def test_dcmtk_reads_it(derivation: Derivation, tmp_path: Path) -> None:
    program = shutil.which("dcmdump")
    if program is None:
        pytest.skip("dcmdump is not installed (Debian package dcmtk)")
    views = ct_series(2)
    path = tmp_path / "map.dcm"
    path.write_bytes(encode(noise_map(views, noise_like(views), derivation, STARTED, 1)))
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "FloatPixelData" in done.stdout


def test_map_of_ct_small_is_as_valid_as_it_is(derivation: Derivation, complaints: Complaints) -> None:
    check_nothing_is_worse(Path(str(get_testdata_file("CT_small.dcm", download=False))), derivation, complaints)


def test_maps_of_real_images_are_as_valid_as_they_are(
    shared_ct: list[Path], derivation: Derivation, complaints: Complaints
) -> None:
    for path in (*shared_ct[:2], shared_ct[-1]):
        check_nothing_is_worse(path, derivation, complaints)


def check_nothing_is_worse(path: Path, derivation: Derivation, complaints: Complaints) -> None:
    source = dcmread(path)
    made = encode(noise_map([source], noise_like([source]), derivation, STARTED, 1))
    assert set(complaints(made) - complaints(path.read_bytes())) <= DEVICE_UID | LATERALITY
