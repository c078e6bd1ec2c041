"""Orthanc pushes a study to the node and finds the derived series in the same study."""

from collections.abc import Iterator
from pathlib import Path

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

    assert found["MainDicomTags"]["SeriesDescription"] == f"{series[0].SeriesDescription} ISCL"


def _derived_series(orthanc: Orthanc, study: str, source_uid: str, count: int) -> dict[str, dict[str, str]] | None:
    """The only other series of the study, once it has as many instances."""
    others = [
        each
        for each in orthanc.get(f"/studies/{study}/series")
        if each["MainDicomTags"]["SeriesInstanceUID"] != source_uid
    ]
    return others[0] if len(others) == 1 and len(others[0]["Instances"]) == count else None
