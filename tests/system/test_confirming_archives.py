"""Archives confirm what they keep: Orthanc by Storage Commitment, dcmqrscp by C-FIND."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archive import Dcmqrscp, Orthanc
from delivery import files_of, series_uid_of, wait_until_done
from node import Node
from ports import free_port
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

CONFIRMATIONS = "iscl_node_confirmations_total"
RESENT = "iscl_node_resent_instances_total"
FORGETFUL = "function OnStoredInstance(instanceId, tags, metadata) Delete(instanceId) end"
MakeAuto = Callable[[int], Node]


@pytest.fixture
def node_sending_to(tmp_path: Path, bundle: Path) -> Iterator[MakeAuto]:
    """A node that asks its archive, at a port, to confirm."""
    nodes: list[Node] = []

    def make(archive_port: int) -> Node:
        nodes.append(Node(tmp_path / "node", archive_port, bundle, confirm="auto"))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def make_orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    servers: list[Orthanc] = []

    def make(lua: str = "") -> Orthanc:
        servers.append(Orthanc(tmp_path / "orthanc", lua))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def recorded(node: Node, uid: str, state: str = "done") -> list[dict[str, Any]]:
    """The record of the only batch of a series at its only destination."""
    (path,) = (node.spool / state / uid).glob("*/*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def instances_of(orthanc: Orthanc) -> list[str]:
    return sorted(each["MainDicomTags"]["SOPInstanceUID"] for each in orthanc.get("/instances?expand"))


def test_orthanc_commits_to_what_it_got(
    make_orthanc: Callable[..., Orthanc], node_sending_to: MakeAuto, make_series: MakeSeries
) -> None:
    orthanc, series = make_orthanc(), make_series(3)
    node = node_sending_to(orthanc.port)
    orthanc.start(node.port)
    node.start()

    send(node, files_of(series))
    wait_until_done(node, series)

    *answers, last = recorded(node, series_uid_of(series))
    assert sorted(each["sop_instance_uid"] for each in answers) == instances_of(orthanc)
    assert {each["status"] for each in answers} == {"0000"}
    assert (last["event"], last["way"]) == ("confirmed", "commitment")
    labels = {"peer": "archive", "way": "commitment", "outcome": "confirmed"}
    assert node.metric(CONFIRMATIONS, labels) == 1
    assert "peer archive confirms by: Storage Commitment" in node.command("check").stdout


@pytest.mark.fault(
    "delivery",
    "Orthanc answers with success and deletes what it got at once",
    "it is sent again under the same UIDs until Orthanc commits to it; nothing leaves the spool before",
)
def test_what_orthanc_forgets_is_sent_again(
    make_orthanc: Callable[..., Orthanc], node_sending_to: MakeAuto, make_series: MakeSeries
) -> None:
    orthanc, series = make_orthanc(FORGETFUL), make_series(3)
    uid = series_uid_of(series)
    node = node_sending_to(orthanc.port)
    orthanc.start(node.port)
    node.start()

    send(node, files_of(series))
    node.wait_for(lambda: node.metric(RESENT, {"peer": "archive"}) >= 6, "everything is sent again twice")
    assert node.states(uid) == {"sent", "outbox"}
    orthanc.run_lua("function OnStoredInstance(instanceId, tags, metadata) end")
    wait_until_done(node, series)

    told = recorded(node, uid)
    assert {each["reason"] for each in told if each["event"] == "missing"} == {"0112"}
    assert len(instances_of(orthanc)) == 3
    assert {each["sop_instance_uid"] for each in told if each["event"] == "answered"} == set(instances_of(orthanc))


@pytest.mark.fault(
    "machine",
    "`kill -9` of the node, and of the archive, between the request for storage commitment and its report",
    "the next start asks anew, as soon as the archive answers; nothing is sent again",
)
def test_kill_between_request_and_report(
    make_orthanc: Callable[..., Orthanc], node_sending_to: MakeAuto, make_series: MakeSeries
) -> None:
    orthanc, series = make_orthanc(), make_series(3)
    uid = series_uid_of(series)
    node = node_sending_to(orthanc.port)
    orthanc.start(free_port())  # its report finds nobody
    node.start()
    send(node, files_of(series))
    # It waits in vain for three seconds on the association of the request.
    node.wait_for(lambda: node.workflows("report"), "storage commitment is asked for")

    node.kill()
    orthanc.kill()
    node.start()
    node.wait_for(lambda: '"step": "ask"' in node.log(), "the archive is asked in vain")
    assert node.states(uid) == {"sent", "outbox"}
    orthanc.start(node.port)
    wait_until_done(node, series)

    *answers, last = recorded(node, uid)
    assert (len(answers), last["way"]) == (3, "commitment")
    node.wait_for(lambda: not node.workflows(), "nothing is left of the requests")


def test_an_archive_without_storage_commitment_is_asked_by_c_find(
    tmp_path: Path, node_sending_to: MakeAuto, make_series: MakeSeries
) -> None:
    archive, series = Dcmqrscp(tmp_path / "dcmqrscp"), make_series(3)
    node = node_sending_to(archive.peer.port)
    archive.start(node.port)
    try:
        node.start()
        send(node, files_of(series))
        wait_until_done(node, series)
        assert "peer archive confirms by: C-FIND" in node.command("check").stdout
    finally:
        archive.close()
    assert recorded(node, series_uid_of(series))[-1]["way"] == "query"
