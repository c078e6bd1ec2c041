"""Orthanc pushes a study to the node and finds the derived series in the same study."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive import Orthanc
from delivery import files_of, series_uid_of
from node import Node
from sending import MakeSeries

pytestmark = pytest.mark.peers


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    yield server
    server.close()


def test_derived_series_appears_in_the_study(
    orthanc: Orthanc, tmp_path: Path, bundle: Path, make_series: MakeSeries
) -> None:
    series = make_series(3)
    node = Node(tmp_path / "node", orthanc.port, bundle)
    orthanc.start(node.port)
    node.start()
    uploads = [orthanc.post("/instances", path.read_bytes()) for path in files_of(series)]
    study = uploads[0]["ParentStudy"]

    try:
        orthanc.post("/modalities/node/store", study.encode())
        found = node.wait_for(lambda: _derived_series(orthanc, study, series_uid_of(series), 3), "the derived series")
    finally:
        node.close()

    assert found["MainDicomTags"]["SeriesDescription"] == f"{series[0].SeriesDescription} AI denoised"


def test_evidence_appears_in_the_study(orthanc: Orthanc, tmp_path: Path, bundle: Path, make_series: MakeSeries) -> None:
    series = make_series(3)
    node = Node(tmp_path / "node", orthanc.port, bundle, rule="noise_map = true\nreport = true")
    orthanc.start(node.port)
    node.start()
    uploads = [orthanc.post("/instances", path.read_bytes()) for path in files_of(series)]

    try:
        orthanc.post("/modalities/node/store", uploads[0]["ParentStudy"].encode())
        made = node.wait_for(lambda: _made(orthanc, uploads[0]["ParentStudy"], 4), "four series in the study")
    finally:
        node.close()

    assert sorted(each["MainDicomTags"]["Modality"] for each in made) == ["CT", "CT", "OT", "SR"]
    (report,) = (each["Instances"][0] for each in made if each["MainDicomTags"]["Modality"] == "SR")
    content = orthanc.get(f"/instances/{report}/simplified-tags")
    groups = content["ContentSequence"][-1]["ContentSequence"]
    assert [group["ContentSequence"][0]["TextValue"] for group in groups] == [
        "Source series",
        "Derived series",
        "Change by noise reduction",
    ]
    (noise_map,) = (each["Instances"][0] for each in made if each["MainDicomTags"]["Modality"] == "OT")
    assert orthanc.get(f"/instances/{noise_map}/simplified-tags")["NumberOfFrames"] == "3"


def _made(orthanc: Orthanc, study: str, count: int) -> list[dict[str, Any]] | None:
    """The series of the study, once there are as many."""
    series: list[dict[str, Any]] = orthanc.get(f"/studies/{study}/series")
    return series if len(series) == count else None


def _derived_series(orthanc: Orthanc, study: str, source_uid: str, count: int) -> dict[str, dict[str, str]] | None:
    """The only other series of the study, once it has as many instances."""
    others = [
        each
        for each in orthanc.get(f"/studies/{study}/series")
        if each["MainDicomTags"]["SeriesInstanceUID"] != source_uid
    ]
    return others[0] if len(others) == 1 and len(others[0]["Instances"]) == count else None
