"""Orthanc, as the modality, asks the node for storage commitment of what it sent; as the archive it is asked by it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archive import Orthanc
from delivery import files_of
from node import AE_TITLE, Node
from sending import MakeSeries, send

pytestmark = pytest.mark.peers


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    yield server
    server.close()


@pytest.fixture
def committing(orthanc: Orthanc, tmp_path: Path, bundle: Path) -> Iterator[Callable[..., Node]]:
    """A node that sends to Orthanc, takes from it, and commits."""
    nodes: list[Node] = []

    def make(commit: str, delivery: str = "") -> Node:
        node = Node(tmp_path / "node", orthanc.port, bundle, confirm="auto")
        node.change_settings("quiet_seconds", f'commit = "{commit}"\nquiet_seconds')
        node.change_settings("[delivery]", f"[delivery]\n{delivery}")
        nodes.append(node)
        orthanc.start(node.port)
        node.start()
        return node

    yield make
    for node in nodes:
        node.close()


def asked_by(orthanc: Orthanc, uids: list[str]) -> str:
    """Have Orthanc ask for commitment, and return the transaction."""
    body = {"DicomInstances": [["1.2.840.10008.5.1.4.1.1.2", uid] for uid in uids]}
    answer = orthanc.post("/modalities/node/storage-commitment", json.dumps(body).encode())
    return str(answer["ID"])


def report_at(orthanc: Orthanc, transaction: str) -> dict[str, Any] | None:
    report: dict[str, Any] = orthanc.get(f"/storage-commitment/{transaction}")
    return None if report["Status"] == "Pending" else report


@pytest.mark.parametrize("commit", ["archived", "received"])
def test_a_modality_is_told_what_is_kept(
    commit: str, committing: Callable[..., Node], orthanc: Orthanc, make_series: MakeSeries
) -> None:
    node, series = committing(commit), make_series(3)
    uploads = [orthanc.post("/instances", path.read_bytes()) for path in files_of(series)]
    orthanc.post("/modalities/node/store", uploads[0]["ParentStudy"].encode())
    uids = [str(each.SOPInstanceUID) for each in series]

    transaction = asked_by(orthanc, uids)
    report = node.wait_for(lambda: report_at(orthanc, transaction), "the report of the node")

    assert report["Status"] == "Success"
    assert sorted(each["SOPInstanceUID"] for each in report["Success"]) == sorted(uids)
    assert report["RemoteAET"] == AE_TITLE


def test_what_the_archive_does_not_have_stays_with_its_modality(
    committing: Callable[..., Node], orthanc: Orthanc, make_series: MakeSeries
) -> None:
    """The node has it, which is not enough."""
    node, series = committing("archived", "report_hours = 0.001"), make_series(2)
    send(node, files_of(series))
    uids = [str(each.SOPInstanceUID) for each in series]

    transaction = asked_by(orthanc, uids)
    report = node.wait_for(lambda: report_at(orthanc, transaction), "the report of the node")

    assert report["Status"] == "Failure"
    assert sorted(each["SOPInstanceUID"] for each in report["Failures"]) == sorted(uids)
