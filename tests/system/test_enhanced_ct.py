"""A multi-frame CT comes, one of the same kind goes to the archive; other systems take it and show its frames."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from archive import Orthanc, RecordingArchive
from delivery import assert_delivered, files_of, wait_until_done
from multiframe import enhanced_ct, legacy_ct
from node import PATIENCE_SECONDS, Node, required_tool, wait_for
from ports import free_port
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from sending import send as send_to_node

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu.storage_scu import send
from iscl_node.network.scu.verification import echo

pytestmark = [pytest.mark.peers, pytest.mark.parametrize("make", [enhanced_ct, legacy_ct], ids=["enhanced", "legacy"])]

Make = Callable[[int], FileDataset]


@pytest.fixture
def source(make: Make, request: pytest.FixtureRequest, tmp_path: Path) -> FileDataset:
    """An instance on disk with UIDs that no other test has."""
    dataset = make(3)
    uid = generate_uid(entropy_srcs=[request.node.nodeid])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[request.node.nodeid, "series"])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.filename = tmp_path / "source.dcm"
    dataset.save_as(dataset.filename, enforce_file_format=True)
    return dataset


@pytest.fixture
def derived(source: FileDataset, shared_node: Node, shared_archive: RecordingArchive, tmp_path: Path) -> Path:
    """What the node makes of it and sends to an archive."""
    send_to_node(shared_node, files_of([source]))
    wait_until_done(shared_node, [source])
    (instance,) = assert_delivered(shared_node, shared_archive, [source])
    path = tmp_path / "derived.dcm"
    instance.save_as(path)
    return path


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[Peer, Path]]:
    """DCMTK's archive, and the folder of what it received."""
    port, folder = free_port(), tmp_path / "received"
    folder.mkdir()
    command = [required_tool("storescp"), "--aetitle", "ARCHIVE", "--output-directory", str(folder), str(port)]
    server = subprocess.Popen(command)
    peer = Peer("dcmtk", "ARCHIVE", "127.0.0.1", port)
    wait_for(lambda: answers(peer), "storescp answers")
    yield peer, folder
    server.kill()
    server.wait()


def answers(peer: Peer) -> bool:
    """Whether it answers a C-ECHO."""
    try:
        echo(peer, "ISCL_NODE")
    except RetryLaterError:
        return False
    return True


@pytest.fixture
def orthanc(tmp_path: Path, shared_node: Node) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    server.start(shared_node.port)
    yield server
    server.close()


def test_multiframe_ct_becomes_multiframe_ct(source: FileDataset, derived: Path) -> None:
    result = pydicom.dcmread(derived)
    assert result.SOPClassUID == source.SOPClassUID
    np.testing.assert_array_equal(result.pixel_array, source.pixel_array)


def test_dcmtk_takes_and_shows_the_frames(
    derived: Path, storescp: tuple[Peer, Path], metrics: Metrics, tmp_path: Path
) -> None:
    peer, received = storescp
    send(peer, "ISCL_NODE", [derived], metrics)

    (file,) = received.iterdir()
    dump = subprocess.run([required_tool("dcmdump"), str(file)], capture_output=True, text=True, check=True).stdout
    assert dump.count("ReferencedFrameNumber") == 3
    for frame in range(1, 4):
        image = tmp_path / f"{frame}.pgm"
        command = [required_tool("dcm2pnm"), "--frame", str(frame), "--min-max-window", str(file), str(image)]
        subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)
        assert image.read_bytes().startswith(b"P5")


def test_orthanc_takes_and_shows_the_frames(derived: Path, orthanc: Orthanc, metrics: Metrics) -> None:
    send(Peer("orthanc", "ARCHIVE", "127.0.0.1", orthanc.port), "ISCL_NODE", [derived], metrics)

    (instance,) = orthanc.get("/instances")
    assert orthanc.get(f"/instances/{instance}/frames") == [0, 1, 2]
    described = orthanc.get(f"/instances/{instance}/simplified-tags")
    assert described["SOPInstanceUID"] == pydicom.dcmread(derived).SOPInstanceUID
    assert described["ContentQualification"] == "RESEARCH"
