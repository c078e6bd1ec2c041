"""Derived CT of real files: as valid as the source for dciodvfy, and read by DCMTK and taken by Orthanc."""

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from factories import part10
from highdicom.pm import ParametricMap
from highdicom.sr import ComprehensiveSR
from multiframe import converted
from pydicom import dcmread
from real_ct import NOW, SHARED_DATA, derived_files, real_ct_files, small_subset
from surroundings import required_program
from validator import DEVICE_UID, LATERALITY, OWN_SCHEME

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain import SCAN_FACTS, Derivation, EvidenceChoice, Site
from iscl_node.making.evidence import evidence
from iscl_node.making.read_back import read_back

NOISE_HU = 10.0
"""Standard deviation of what is removed where a map is to hold something."""


@pytest.fixture
def at_site(derivation: Derivation) -> Derivation:
    """With everything that the settings can add."""
    return replace(derivation, site=Site("NODE", "Hospital", "Radiology", "ISCL1", keep_private=SCAN_FACTS))


def check_validity(
    paths: Sequence[Path], derivation: Derivation, complaints: Callable[[bytes], Counter[str]]
) -> tuple[int, int]:
    """How many files were derived, and how many of these have no error themselves."""
    derived_count = valid_count = 0
    for path, derived in derived_files(paths, derivation):
        of_source, of_derived = complaints(path.read_bytes()), complaints(derived)
        assert set(of_derived - of_source) <= DEVICE_UID, path
        derived_count += 1
        valid_count += not _errors(of_source)
        assert _errors(of_source) or not _errors(of_derived), path
    return derived_count, valid_count


def check_evidence(
    paths: Sequence[Path], derivation: Derivation, complaints: Callable[[bytes], Counter[str]], folder: Path
) -> int:
    """How many files had a noise map and a report, as valid as the source and read back by highdicom."""
    count = 0
    for path, derived in derived_files(paths, derivation, NOISE_HU):
        instance = dcmread(BytesIO(derived))
        made = folder / instance.SeriesInstanceUID / f"{instance.SOPInstanceUID}.dcm"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(derived)
        of_source = complaints(path.read_bytes())
        choice = EvidenceChoice(noise_map=True, report=True)
        (back,) = read_back([path], folder, [derivation], choice)
        for each in evidence(back, NOW, choice):
            stream = encode(each)
            found = complaints(stream)
            assert set(found - of_source) <= DEVICE_UID | LATERALITY | OWN_SCHEME, path
            assert _errors(of_source) or not _errors(found), path
            check_highdicom_reads(stream)
            count += 1
    return count


def check_highdicom_reads(stream: bytes) -> None:
    if dcmread(BytesIO(stream)).Modality == "SR":
        measured = ComprehensiveSR.from_dataset(dcmread(BytesIO(stream)))
        assert measured.content.get_image_measurement_groups()
        return
    frames = ParametricMap.from_dataset(dcmread(BytesIO(stream))).get_frames(dtype=np.float32)
    assert np.isfinite(frames).all()


def _errors(found: Counter[str]) -> list[str]:
    return [each for each in found if each.startswith("Error")]


def test_a_few_real_files(at_site: Derivation, complaints: Callable[[bytes], Counter[str]]) -> None:
    derived, _ = check_validity(small_subset(), at_site, complaints)
    assert derived >= 2


@pytest.mark.long
def test_every_real_file(at_site: Derivation, complaints: Callable[[bytes], Counter[str]]) -> None:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real CT images in {SHARED_DATA}")
    derived, valid = check_validity(real_ct_files(), at_site, complaints)
    assert derived > 60
    assert valid > 0


def test_evidence_of_a_few(at_site: Derivation, complaints: Callable[[bytes], Counter[str]], tmp_path: Path) -> None:
    assert check_evidence(small_subset(), at_site, complaints, tmp_path) >= 2 * 2


@pytest.mark.long
def test_evidence_of_every_real_file(
    at_site: Derivation, complaints: Callable[[bytes], Counter[str]], tmp_path: Path
) -> None:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real CT images in {SHARED_DATA}")
    assert check_evidence(real_ct_files(), at_site, complaints, tmp_path) > 2 * 60


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_conversions_of_every_real_file(at_site: Derivation, complaints: Callable[[bytes], Counter[str]]) -> None:
    """Multi-frame: each file as highdicom's Legacy Converted Enhanced CT of one frame."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real CT images in {SHARED_DATA}")
    count = 0
    for path, _ in derived_files(real_ct_files(), at_site):
        try:
            source = converted([dcmread(path)])
        except (AttributeError, ValueError, TypeError, KeyError):
            continue  # highdicom asks for more attributes than this file has
        of_source = complaints(part10(source))
        derived = complaints(encode(derive(source, map(to_hu, frames(source)), at_site, NOW, NOW)))
        assert set(derived - of_source) <= DEVICE_UID, path
        count += 1
    assert count > 30


def check_dcmtk(paths: Sequence[Path], derivation: Derivation, folder: Path) -> None:
    """DCMTK dumps every instance without a complaint and renders it."""
    dump, render = required_program("dcmdump", "dcmtk"), required_program("dcmj2pnm", "dcmtk")
    for path, derived in derived_files(paths, derivation):
        file = folder / "derived.dcm"
        file.write_bytes(derived)
        dumped = subprocess.run([dump, "--quiet", str(file)], capture_output=True, check=False)
        assert (dumped.returncode, dumped.stderr) == (0, b""), path
        image = folder / "image.pgm"
        rendered = subprocess.run([render, "--quiet", str(file), str(image)], capture_output=True, check=False)
        assert (rendered.returncode, image.read_bytes()[:2]) == (0, b"P5"), path


@pytest.mark.peers
def test_dcmtk_reads_a_few(at_site: Derivation, tmp_path: Path) -> None:
    check_dcmtk(small_subset(), at_site, tmp_path)


@pytest.mark.peers
@pytest.mark.long
def test_dcmtk_reads_every_one(at_site: Derivation, tmp_path: Path) -> None:
    check_dcmtk(real_ct_files(), at_site, tmp_path)
