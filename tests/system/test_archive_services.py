"""Archives as they are: Orthanc and DCMTK's dcmqrscp tell what they have, send it to us, and commit to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import Dcmqrscp, Orthanc
from factories import ct_series
from node import AE_TITLE, wait_for
from ports import free_port
from prometheus_client import CollectorRegistry
from pydicom.dataset import FileDataset

from iscl_node.domain import CT_IMAGE_STORAGE, CommitmentReport, InstanceReference, Peer, ReceivedInstance
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.network.scu import storage_commitment
from iscl_node.network.scu.query import MoveResult, find_instances, move_instances
from iscl_node.network.scu.storage_scu import send

pytestmark = pytest.mark.peers

TRANSACTION = "2.25.1000"
NEVER_SENT = "2.25.999"


class OurPort:
    """Our Storage SCP, with what arrived and what was reported."""

    def __init__(self, archive: Peer) -> None:
        self.instances: list[ReceivedInstance] = []
        self.reports: list[tuple[str, CommitmentReport]] = []
        self.scp = StorageScp(
            ae_title=AE_TITLE,
            host="127.0.0.1",
            port=free_port(),
            peers=[archive],
            accept_unknown_peers=False,
            receive=self.instances.append,
            metrics=Metrics(CollectorRegistry()),
            report=lambda ae_title, report: self.reports.append((ae_title, report)),
        )
        self.scp.start()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "series"
    folder.mkdir()
    paths = []
    for dataset in ct_series(3):
        paths.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.fixture
def sent() -> list[FileDataset]:
    return ct_series(3)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[Peer, OurPort]]:
    server = Orthanc(tmp_path / "orthanc")
    peer = Peer("orthanc", "ARCHIVE", "127.0.0.1", server.port)
    ours = OurPort(peer)
    server.start(ours.scp.port)
    yield peer, ours
    server.close()
    ours.scp.stop()


@pytest.fixture
def dcmqrscp(tmp_path: Path) -> Iterator[tuple[Peer, OurPort]]:
    server = Dcmqrscp(tmp_path / "dcmqrscp")
    ours = OurPort(server.peer)
    server.start(ours.scp.port)
    yield server.peer, ours
    server.close()
    ours.scp.stop()


@pytest.mark.parametrize("archive", ["orthanc", "dcmqrscp"])
def test_an_archive_tells_what_it_has_and_sends_it(
    archive: str, request: pytest.FixtureRequest, sent: list[FileDataset], files: list[Path], metrics: Metrics
) -> None:
    peer, ours = request.getfixturevalue(archive)
    study, series = str(sent[0].StudyInstanceUID), str(sent[0].SeriesInstanceUID)
    uids = [str(each.SOPInstanceUID) for each in sent]
    assert find_instances(peer, AE_TITLE, study, series) == frozenset()
    send(peer, AE_TITLE, files[:2], metrics)
    assert find_instances(peer, AE_TITLE, study, series) == frozenset(uids[:2])
    send(peer, AE_TITLE, files[2:], metrics)
    assert find_instances(peer, AE_TITLE, study, series) == frozenset(uids)

    assert move_instances(peer, AE_TITLE, study, series, uids[1:]) == MoveResult(completed=2)
    assert {each.calling_ae_title for each in ours.instances} == {"ARCHIVE"}
    assert len(ours.instances) == 2
    assert all(any(uid.encode() in each.part10 for each in ours.instances) for uid in uids[1:])


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        ("orthanc", "did not answer the C-MOVE; does it know us as AE title STRANGER"),
        ("dcmqrscp", "does not know us as AE title STRANGER"),
    ],
)
@pytest.mark.fault(
    "delivery",
    "an archive is to send instances and does not know where our AE title is",
    "the error says so; asked again later",
)
def test_an_archive_does_not_send_to_an_ae_title_that_it_does_not_know(
    archive: str,
    said: str,
    request: pytest.FixtureRequest,
    sent: list[FileDataset],
    files: list[Path],
    metrics: Metrics,
) -> None:
    peer, ours = request.getfixturevalue(archive)
    send(peer, AE_TITLE, files, metrics)
    study, series = str(sent[0].StudyInstanceUID), str(sent[0].SeriesInstanceUID)
    with pytest.raises(RetryLaterError, match=said):
        move_instances(peer, "STRANGER", study, series, [str(sent[0].SOPInstanceUID)])
    assert ours.instances == []


def test_orthanc_reports_on_another_association_what_it_keeps(
    orthanc: tuple[Peer, OurPort], sent: list[FileDataset], files: list[Path], metrics: Metrics
) -> None:
    peer, ours = orthanc
    send(peer, AE_TITLE, files[:2], metrics)
    uids = [*(str(each.SOPInstanceUID) for each in sent), NEVER_SENT]
    instances = [InstanceReference(CT_IMAGE_STORAGE, uid) for uid in uids]

    assert storage_commitment.request(peer, AE_TITLE, TRANSACTION, instances, report_seconds=0.0) is None

    wait_for(lambda: bool(ours.reports), "the report")
    ((ae_title, report),) = ours.reports
    assert (ae_title, report.transaction_uid) == ("ARCHIVE", TRANSACTION)
    assert report.committed == frozenset(uids[:2])
    assert report.failed == dict.fromkeys(uids[2:], 0x0112)
