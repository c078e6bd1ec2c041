"""Folders in, folders out."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import ROOT, part10
from multiframe import enhanced_ct, legacy_ct
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from small_bundle import write_bundle

from iscl_node import offline
from iscl_node.dicom.reading import folder
from iscl_node.dicom.reading.folder import SkippedFile, read_folder
from iscl_node.domain import EvidenceChoice
from iscl_node.errors import ConfigurationError
from iscl_node.offline import (
    Denoising,
    ExpectedInstances,
    FinishedSeries,
    IgnoredSeries,
    RefusedSeries,
    WrittenInstance,
    denoise_folder,
    simulate_folder,
)

WriteSeries = Callable[..., Path]


@pytest.fixture
def denoising(identity_bundle: Path) -> Denoising:
    return Denoising(identity_bundle, "abdomen", (1.0,), " ISCL", "cpu")


def by_position(folder: Path) -> list[pydicom.FileDataset]:
    instances = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    return sorted(instances, key=lambda instance: float(instance.ImagePositionPatient[2]))


def test_an_identity_gives_the_same_pixels_under_a_new_identity(
    write_series: WriteSeries, tmp_path: Path, denoising: Denoising
) -> None:
    source, target = write_series(3), tmp_path / "out"

    outcomes = list(denoise_folder(source, target, denoising))

    assert [type(outcome) for outcome in outcomes] == [ExpectedInstances] + [WrittenInstance] * 3 + [FinishedSeries]
    assert outcomes[0] == ExpectedInstances(3)
    assert outcomes[-1] == FinishedSeries(3)
    for before, after in zip(by_position(source), by_position(target), strict=True):
        np.testing.assert_array_equal(after.pixel_array, before.pixel_array)
        assert after.SOPInstanceUID != before.SOPInstanceUID
        assert after.SeriesDescription == "THORAX ISCL"
        assert Path(str(after.filename)).parent.name == after.SeriesInstanceUID


@pytest.mark.parametrize(("asked", "written"), [("explicit", ExplicitVRLittleEndian), ("source", RLELossless)])
def test_a_compressed_series_is_read_and_written_as_asked(
    write_series: WriteSeries, tmp_path: Path, denoising: Denoising, asked: str, written: str
) -> None:
    source, target = write_series(1), tmp_path / "out"
    (before,) = by_position(source)
    expected = before.pixel_array
    before.compress(RLELossless, generate_instance_uid=False)
    before.save_as(str(before.filename))

    list(denoise_folder(source, target, replace(denoising, transfer_syntax=asked)))

    (after,) = by_position(target)
    assert after.file_meta.TransferSyntaxUID == written
    np.testing.assert_array_equal(after.pixel_array, expected)


def test_evidence_has_folders_of_its_own(write_series: WriteSeries, tmp_path: Path, denoising: Denoising) -> None:
    both = EvidenceChoice(noise_map=True, report=True)

    outcomes = list(denoise_folder(write_series(3), tmp_path / "out", replace(denoising, evidence=both)))

    assert outcomes[-1] == FinishedSeries(5)
    made = [[pydicom.dcmread(path) for path in folder.iterdir()] for folder in (tmp_path / "out").iterdir()]
    assert sorted((series[0].Modality, len(series)) for series in made) == [("CT", 3), ("OT", 1), ("SR", 1)]


@pytest.mark.parametrize("is_simulated", [False, True])
def test_pixels_are_not_kept(
    write_series: WriteSeries,
    tmp_path: Path,
    denoising: Denoising,
    monkeypatch: pytest.MonkeyPatch,
    is_simulated: bool,
) -> None:
    monkeypatch.setattr(folder, "DEFERRED_SIZE", "1 KB")
    source, target = write_series(2), tmp_path / "out"
    content = read_folder(source)
    monkeypatch.setattr(offline, "read_folder", lambda _: content)

    outcomes = simulate_folder(source, target, 0.5, 0, 1) if is_simulated else denoise_folder(source, target, denoising)

    assert list(outcomes)[-1] == FinishedSeries(2)
    ((_, instances),) = content.series.items()
    assert [each.get_item("PixelData", keep_deferred=True).value for each in instances] == [None, None]


def test_the_same_work_gives_the_same_names(write_series: WriteSeries, tmp_path: Path, denoising: Denoising) -> None:
    source = write_series(2)
    list(denoise_folder(source, tmp_path / "one", denoising))
    list(denoise_folder(source, tmp_path / "two", denoising))
    names = [{path.name for path in (tmp_path / each).rglob("*.dcm")} for each in ("one", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 2


def test_a_series_that_is_no_ct_is_ignored_and_the_others_go_on(
    write_series: WriteSeries, tmp_path: Path, denoising: Denoising
) -> None:
    source = write_series(2)
    write_series(
        1, folder="series/mr", Modality="MR", SeriesInstanceUID=f"{ROOT}.99", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"
    )
    (source / "notes.txt").write_text("no DICOM")

    outcomes = list(denoise_folder(source, tmp_path / "out", denoising))

    ignored = [outcome for outcome in outcomes if isinstance(outcome, IgnoredSeries)]
    skipped = [outcome for outcome in outcomes if isinstance(outcome, SkippedFile)]
    assert ignored == [IgnoredSeries(f"{ROOT}.99", "1 of 1 instances: it is MR Image Storage, no CT Image")]
    assert [each.path.name for each in skipped] == ["notes.txt"]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2


def test_of_a_series_whose_second_slice_is_not_plausible_nothing_stays(
    write_series: WriteSeries, tmp_path: Path, denoising: Denoising
) -> None:
    source, target = write_series(3), tmp_path / "out"
    _, second, _ = by_position(source)
    second.RescaleIntercept += 200  # soft tissue of 200 HU, which the bundle makes 80 HU
    second.save_as(str(second.filename))

    outcomes = list(denoise_folder(source, target, replace(denoising, bundle=clipping_bundle(tmp_path / "clipping"))))

    kinds = [ExpectedInstances, WrittenInstance, ExpectedInstances, RefusedSeries]
    assert [type(outcome) for outcome in outcomes] == kinds
    assert outcomes[0].change + outcomes[2].change == 1
    assert "a region was shifted" in outcomes[3].reason
    assert not list(target.iterdir())


def clipping_bundle(folder: Path) -> Path:
    """A bundle that clips to 80 HU, for the profile abdomen."""
    import torch

    bundle = write_bundle(folder, {"_target_": "torch.nn.Hardtanh", "min_val": -2000, "max_val": 80})
    torch.save({}, bundle / "models" / "model.pt")
    return bundle


def simulation(source: Path, target: Path) -> Iterator[object]:
    return simulate_folder(source, target, dose=0.25, seed=0, workers=1)


def test_a_simulated_copy_has_more_noise_and_says_so(write_series: WriteSeries, tmp_path: Path) -> None:
    source, target = write_series(1), tmp_path / "out"

    assert list(simulation(source, target))[-1] == FinishedSeries(1)

    (before,), (after,) = by_position(source), by_position(target)
    fine = [np.diff(each.pixel_array.astype(float)).std() for each in (before, after)]
    assert fine[1] > fine[0]
    assert "25%" in after.SeriesDescription
    assert after.SyntheticData == "YES"


def test_a_coronal_series_is_not_simulated(write_series: WriteSeries, tmp_path: Path) -> None:
    source, target = write_series(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), tmp_path / "out"

    *_, refused = simulation(source, target)

    assert isinstance(refused, RefusedSeries)
    assert "coronal" in refused.reason
    assert not list(tmp_path.rglob("*.part"))


def test_wrong_folders_are_named(write_series: WriteSeries, tmp_path: Path) -> None:
    source = write_series(1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="is not a folder"):
        list(simulation(tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(ConfigurationError, match="holds no DICOM"):
        list(simulation(tmp_path / "empty", tmp_path / "out"))
    with pytest.raises(ConfigurationError, match="would be read as input"):
        list(simulation(source, source / "out"))


@pytest.mark.parametrize("make", [enhanced_ct, legacy_ct])
@pytest.mark.parametrize("strengths", [(1.0,), (0.5, 1.0)])
def test_multiframe_ct_becomes_multiframe_ct(
    make: Callable[[], Dataset], strengths: tuple[float, ...], tmp_path: Path, denoising: Denoising
) -> None:
    source, folder, target = make(), tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "multiframe.dcm").write_bytes(part10(source))

    outcomes = list(denoise_folder(folder, target, replace(denoising, strengths=strengths)))

    assert outcomes[-1] == FinishedSeries(len(strengths))
    derived = [pydicom.dcmread(path) for path in target.rglob("*.dcm")]
    assert len({each.SeriesInstanceUID for each in derived}) == len(strengths)
    for each in derived:
        assert each.SOPClassUID == source.SOPClassUID
        np.testing.assert_array_equal(each.pixel_array, source.pixel_array)


def test_enhanced_ct_is_not_simulated(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "enhanced.dcm").write_bytes(part10(enhanced_ct()))

    *_, refused = simulation(folder, tmp_path / "out")

    assert isinstance(refused, RefusedSeries)
    assert "CT Image Storage only" in refused.reason
