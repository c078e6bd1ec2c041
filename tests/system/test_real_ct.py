"""Archives take derived CT of real files: Orthanc and DCMTK's storescp, over the node's own Storage SCU."""

import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from archive import Orthanc
from node import required_tool, wait_for
from ports import free_port
from prometheus_client import CollectorRegistry
from pydicom import dcmread
from real_ct import derived_files, real_ct_files, small_subset

from iscl_node.domain import Derivation, ModelIdentity, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu.storage_scu import send
from iscl_node.network.scu.verification import echo

pytestmark = pytest.mark.peers

DERIVATION = Derivation(ModelIdentity("ISCL", "1", "5f" * 32), "abdomen", 1.0, " ISCL", "0.1.0")


@pytest.fixture(params=[small_subset, pytest.param(real_ct_files, marks=pytest.mark.long)], ids=["few", "every one"])
def derived(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Derived instances of real files, by their UIDs."""
    files = {}
    for _, stream in derived_files(request.param(), DERIVATION):
        uid = dcmread(BytesIO(stream)).SOPInstanceUID
        files[uid] = tmp_path / f"{uid}.dcm"
        files[uid].write_bytes(stream)
    return list(files.values())


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    server.start(free_port())
    yield server
    server.close()


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[Peer, Path]]:
    """DCMTK's Storage SCP and the folder it writes to."""
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    process = subprocess.Popen([required_tool("storescp"), "-aet", "DCMTK", "-od", str(folder), str(port)])
    peer = Peer("dcmtk", "DCMTK", "127.0.0.1", port)
    wait_for(lambda: _answers(peer), "storescp answers")
    yield peer, folder
    process.kill()
    process.wait()


def _answers(peer: Peer) -> bool:
    try:
        return echo(peer, "ISCL_NODE") > 0
    except RetryLaterError:
        return False


def test_orthanc_stores_every_instance(orthanc: Orthanc, derived: list[Path]) -> None:
    send(Peer("orthanc", "ARCHIVE", "127.0.0.1", orthanc.port), "ISCL_NODE", derived, Metrics(CollectorRegistry()))
    stored = [orthanc.get(f"/instances/{each}/simplified-tags") for each in orthanc.get("/instances")]
    assert {each["SOPInstanceUID"] for each in stored} == {path.stem for path in derived}
    assert all(each["ContributingEquipmentSequence"][-1]["ManufacturerModelName"] == "ISCL Node" for each in stored)


def test_storescp_stores_every_instance_as_it_was(storescp: tuple[Peer, Path], derived: list[Path]) -> None:
    peer, folder = storescp
    send(peer, "ISCL_NODE", derived, Metrics(CollectorRegistry()))
    received = {dcmread(path).SOPInstanceUID: dcmread(path) for path in folder.iterdir()}
    for path in derived:
        sent = dcmread(path)
        assert received[sent.SOPInstanceUID] == sent, path
