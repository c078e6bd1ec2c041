"""Derived CT of real files: as valid as the source for dciodvfy, and read by DCMTK and taken by Orthanc."""

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from real_ct import SHARED_DATA, derived_files, real_ct_files, small_subset
from surroundings import required_program

from iscl_node.domain import SCAN_FACTS, Derivation, Site

LISTED = frozenset(
    {
        # Device UID is in the SOP Common Module (PS3.3 Table C.12-1), type 3; dciodvfy does not know it yet.
        "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - "
        "this is a Standard Extended SOP Class",
    }
)
"""The only complaints that a derived instance may have and its source not."""


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
        assert set(of_derived - of_source) <= LISTED, path
        derived_count += 1
        valid_count += not _errors(of_source)
        assert _errors(of_source) or not _errors(of_derived), path
    return derived_count, valid_count


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
