"""What goes beside a derived series, made from files: the pixels as they are written decide."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from factories import part10
from highdicom.pm import ParametricMap
from highdicom.sr import ComprehensiveSR
from multiframe import enhanced_ct
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, JPEGLSNearLossless, ParametricMapStorage

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.evidence import noise_map as noise_map_module
from iscl_node.dicom.evidence import report as report_module
from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain import Derivation, EvidenceChoice, ModelIdentity
from iscl_node.errors import QuarantineSeriesError
from iscl_node.making import read_back as module
from iscl_node.making.evidence import evidence
from iscl_node.making.read_back import read_back

DERIVATION = Derivation(ModelIdentity("test", "0", "5f" * 32), "abdomen", 1.0, " ISCL", "0.1.0")
STARTED = datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC)
BOTH = EvidenceChoice(noise_map=True, report=True)


@pytest.fixture
def series(write_series: Callable[..., Path], tmp_path: Path) -> tuple[list[Path], Path]:
    """The files of three slices, and a folder with what was derived of them: soft tissue is one value."""
    sources = sorted(write_series(3, RescaleIntercept=-974).iterdir())
    for path in sources:
        source = dcmread(path)
        hu = to_hu(source)
        derived = derive(source, np.where(hu > -500, np.float32(50.4), hu), DERIVATION, STARTED, STARTED)
        folder = tmp_path / "made" / str(derived.SeriesInstanceUID)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{derived.SOPInstanceUID}.dcm").write_bytes(encode(derived))
    return sources, tmp_path / "made"


@pytest.fixture
def lossy(write_series: Callable[..., Path], tmp_path: Path) -> tuple[list[Path], Path]:
    """As `series`, of one slice in JPEG-LS near-lossless; only its transfer syntax shows the loss."""
    (path,) = write_series(1, RescaleIntercept=-974).iterdir()
    source = dcmread(path)
    source.compress(JPEGLSNearLossless, jls_error=3, generate_instance_uid=False)
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        source.pop(keyword, None)
    source.save_as(path)
    derived = derive(source, to_hu(source) + np.float32(3), DERIVATION, STARTED, STARTED)
    folder = tmp_path / "made" / str(derived.SeriesInstanceUID)
    folder.mkdir(parents=True)
    (folder / f"{derived.SOPInstanceUID}.dcm").write_bytes(encode(derived))
    return [path], tmp_path / "made"


def made_of(series: tuple[list[Path], Path], choice: EvidenceChoice = BOTH) -> list[bytes]:
    (back,) = read_back(*series, [DERIVATION], choice)
    return [encode(each) for each in evidence(back, STARTED, choice)]


def test_the_map_tells_a_loss_that_only_the_transfer_syntax_shows(lossy: tuple[list[Path], Path]) -> None:
    noise_map, _ = (dcmread(BytesIO(made)) for made in made_of(lossy))
    assert noise_map.LossyImageCompression == "01"
    assert noise_map.LossyImageCompressionMethod == "ISO_14495_1"
    assert noise_map.LossyImageCompressionRatio > 1


def test_the_map_is_the_difference_of_what_is_written(series: tuple[list[Path], Path]) -> None:
    made, _ = made_of(series)
    noise_map = ParametricMap.from_dataset(dcmread(BytesIO(made)))
    for path in series[0]:
        source = dcmread(path)
        (pixels,) = noise_map.get_pixels_by_source_instance([source.SOPInstanceUID], dtype=np.float32)
        hu = to_hu(source)
        # Tissue became 50.4 HU, which is stored as 50.
        np.testing.assert_array_equal(pixels, np.where(hu > -500, hu - 50, 0))


def test_as_plain_ct_it_is_the_difference_too_and_says_what_it_is(series: tuple[list[Path], Path]) -> None:
    made = [dcmread(BytesIO(each)) for each in made_of(series, EvidenceChoice(noise_map="ct"))]
    assert len({each.SOPInstanceUID for each in made}) == 3
    assert made_of(series, EvidenceChoice(noise_map="ct")) == [encode(each) for each in made]  # the same again
    for path, removed in zip(series[0], made, strict=True):
        source, hu = dcmread(path), to_hu(dcmread(path))
        np.testing.assert_allclose(to_hu(removed), np.where(hu > -500, hu - 50, 0), atol=0.051)
        assert (removed.SOPClassUID, removed.Modality) == (source.SOPClassUID, "CT")
        assert removed.ImageType[0] == "DERIVED"
        assert removed.ImageType[3] == "REMOVED_NOISE"
        assert removed.SeriesDescription.endswith(" ISCL removed noise")
        assert removed.ImagePositionPatient == source.ImagePositionPatient
        assert removed.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert "PixelPaddingValue" not in removed
        assert removed.DerivationCodeSequence[-1].CodeValue == "113062"
        assert is_own_output(removed)


def test_the_report_tells_of_the_noise(series: tuple[list[Path], Path]) -> None:
    """The slices are a disc of 50 HU with white noise of 20 HU. Squares overlap, so about 16 are independent: 5 %."""
    _, made = made_of(series)
    groups = ComprehensiveSR.from_dataset(dcmread(BytesIO(made))).content.get_image_measurement_groups()
    (noise,) = groups[0].get_measurements(report_module.NOISE)
    (images,) = groups[2].get_measurements(report_module.IMAGES)
    assert noise.value == pytest.approx(20, rel=0.05)
    assert images.value == 3


def test_frames_of_an_enhanced_ct_are_slices(tmp_path: Path) -> None:
    source = tmp_path / "enhanced.dcm"
    source.write_bytes(part10(enhanced_ct(3)))
    whole = dcmread(source)
    derived = derive(whole, [to_hu(view) - 7 for view in frames(whole)], DERIVATION, STARTED, STARTED)
    folder = tmp_path / str(derived.SeriesInstanceUID)
    folder.mkdir()
    (folder / f"{derived.SOPInstanceUID}.dcm").write_bytes(encode(derived))

    noise_map, report = made_of(([source], tmp_path))

    found = ParametricMap.from_dataset(dcmread(BytesIO(noise_map)))
    np.testing.assert_array_equal(found.get_pixels_by_source_frame(whole.SOPInstanceUID, [1, 2, 3]), 7)
    *_, change = ComprehensiveSR.from_dataset(dcmread(BytesIO(report))).content.get_image_measurement_groups()
    assert change.get_measurements(report_module.IMAGES)[0].value == 3


@pytest.mark.parametrize(
    ("choice", "classes"),
    [
        (EvidenceChoice(), []),
        (EvidenceChoice(noise_map=True), [ParametricMapStorage]),
        (EvidenceChoice(report=True), [ComprehensiveSRStorage]),
        (BOTH, [ParametricMapStorage, ComprehensiveSRStorage]),
    ],
)
def test_only_what_is_wanted_is_made(
    series: tuple[list[Path], Path], choice: EvidenceChoice, classes: list[str]
) -> None:
    assert [dcmread(BytesIO(made)).SOPClassUID for made in made_of(series, choice)] == classes


def test_maps_of_a_long_series_are_numbered(series: tuple[list[Path], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_map_module, "MAX_PIXELS", 2 * 64 * 64)
    maps = [dcmread(BytesIO(made)) for made in made_of(series, EvidenceChoice(noise_map=True))]
    assert [(each.InstanceNumber, each.NumberOfFrames) for each in maps] == [(1, 2), (2, 1)]
    assert len({each.SeriesInstanceUID for each in maps}) == 1


def test_of_a_long_series_not_every_slice_is_measured(
    series: tuple[list[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MEASURED", 2)
    (made,) = made_of(series, EvidenceChoice(report=True))
    *_, change = ComprehensiveSR.from_dataset(dcmread(BytesIO(made))).content.get_image_measurement_groups()
    assert [change.get_measurements(name)[0].value for name in (report_module.IMAGES, report_module.MEASURED)] == [3, 2]


def test_without_a_derived_instance_nothing_is_told(series: tuple[list[Path], Path]) -> None:
    next(series[1].rglob("*.dcm")).unlink()
    with pytest.raises(QuarantineSeriesError, match="has no derived instance"):
        made_of(series)
