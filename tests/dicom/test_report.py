"""The report as a TID 1500 document: numbers, names, evidence, validity, and that DCMTK reads it."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from factories import ROOT, ct_series
from highdicom.sr import ComprehensiveSR
from pydicom import dcmread
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage
from validator import DEVICE_UID, OWN_SCHEME

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.evidence import report as module
from iscl_node.dicom.evidence.measurements import ImageMeasurements, SeriesMeasurements
from iscl_node.dicom.evidence.report import report, report_uid
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain import Derivation

STARTED = datetime(2026, 3, 1, 11, 0, 0, tzinfo=UTC)
MEASURED = SeriesMeasurements(3, 2, ImageMeasurements(20.12345, 40.5), ImageMeasurements(8.05, 40.25), structure=0.0123)
NOTHING = SeriesMeasurements(3, 0, ImageMeasurements(None, None), ImageMeasurements(None, None), None)


def part10_of(derivation: Derivation, measurements: SeriesMeasurements = MEASURED, **overrides: object) -> bytes:
    sources = ct_series(3, **overrides)
    derived = [derive(source, to_hu(source), derivation, STARTED, STARTED) for source in sources]
    return encode(report(sources, derived, measurements, derivation, STARTED))


def read(part10: bytes) -> ComprehensiveSR:
    return ComprehensiveSR.from_dataset(dcmread(BytesIO(part10)))


@pytest.mark.parametrize(
    ("group", "name", "unit", "expected"),
    [
        (0, module.NOISE, "[hnsf'U]", 20.123),
        (0, module.MEAN, "[hnsf'U]", 40.5),
        (1, module.NOISE, "[hnsf'U]", 8.05),
        (1, module.MEAN, "[hnsf'U]", 40.25),
        (2, module.IMAGES, "1", 3),
        (2, module.MEASURED, "1", 2),
        (2, module.NOISE_REDUCTION, "%", 59.997),
        (2, module.SHIFT, "[hnsf'U]", -0.25),
        (2, module.STRUCTURE, "1", 0.012),
    ],
)
def test_numbers_are_read_back(derivation: Derivation, group: int, name: Code, unit: str, expected: float) -> None:
    groups = read(part10_of(derivation)).content.get_image_measurement_groups()
    (measurement,) = groups[group].get_measurements(name)
    assert measurement.value == expected
    assert measurement.unit.value == unit


def test_what_could_not_be_measured_is_absent_and_said(derivation: Derivation) -> None:
    part10 = part10_of(derivation, NOTHING)
    source, derived, change = read(part10).content.get_image_measurement_groups()
    assert not source.get_measurements()
    assert not derived.get_measurements()
    assert [each.value for each in change.get_measurements()] == [3, 0]
    assert b"No image holds enough soft tissue" in part10


def test_the_model_is_named(derivation: Derivation) -> None:
    part10 = part10_of(derivation)
    for text in ("ISCL abdomen", "1.2.3", f"model SHA-256 {'5f' * 32}", "profile abdomen", "strength 1", "0.1.0"):
        assert text.encode() in part10
    assert b"not for diagnosis" in part10


def test_both_series_are_the_evidence(derivation: Derivation) -> None:
    found = read(part10_of(derivation))
    per_series = Counter(str(series) for _, series, _, _ in found.get_evidence())
    assert per_series[f"{ROOT}.2"] == 3
    assert sorted(per_series.values()) == [3, 3]


def test_identity(derivation: Derivation) -> None:
    found = read(part10_of(derivation))
    assert found.SOPClassUID == ComprehensiveSRStorage
    assert found.SOPInstanceUID == report_uid(ct_series(3), derivation)
    assert (found.StudyInstanceUID, found.PatientName, found.Modality) == (f"{ROOT}.1", "Test^Case", "SR")
    assert found.SeriesDescription == "THORAX ISCL report"
    assert 3875 <= found.SeriesNumber <= 3999
    assert (found.CompletionFlag, found.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert (found.ContentDate, found.ContentTime) == ("20260301", "110000.000000")


def test_the_same_sources_give_the_same_bytes(derivation: Derivation) -> None:
    assert part10_of(derivation) == part10_of(derivation)


@pytest.mark.parametrize("measurements", [MEASURED, NOTHING])
def test_a_validator_agrees(
    derivation: Derivation, measurements: SeriesMeasurements, complaints: Callable[[bytes], Counter[str]]
) -> None:
    assert set(complaints(part10_of(derivation, measurements))) <= DEVICE_UID | OWN_SCHEME


def test_characters_of_the_source_are_kept(derivation: Derivation) -> None:
    found = read(part10_of(derivation, SpecificCharacterSet="ISO_IR 192", PatientName="山田^太郎"))
    assert found.PatientName == "山田^太郎"


@pytest.mark.parametrize("program", ["dsrdump", "dsr2html"])
@pytest.mark.parametrize("series_uid", [f"{ROOT}.2", "1.2.826.0.01"])  # the second is no valid UID
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_dcmtk_reads_it(derivation: Derivation, tmp_path: Path, program: str, series_uid: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package dcmtk)")
    path = tmp_path / "report.dcm"
    path.write_bytes(part10_of(derivation, SeriesInstanceUID=series_uid))
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for text in ("Imaging Measurement Report", "Noise reduction", "59.997", "Derived series"):
        assert text in done.stdout
