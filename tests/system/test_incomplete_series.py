"""Series with gaps: the late slice, the sender that vanishes, what each policy makes of it, and what a peer knows."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import Orthanc, RecordingArchive
from node import PATIENCE_SECONDS, MakeNode, Node
from pydicom.dataset import FileDataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from sending import MakeSeries, send

MISSING = "2 slices missing between 2.0 and 5.0 mm"


def uid_of(series: list[FileDataset]) -> str:
    return str(series[0].SeriesInstanceUID)


def send_without_the_middle(node: Node, series: list[FileDataset]) -> None:
    send(node, [each.filename for each in [*series[:2], *series[4:]]])


def waits(node: Node, state: str) -> bool:
    return node.metric("iscl_node_incomplete_series", {"state": state}) == 1


def closed(node: Node, by: str) -> float:
    return node.metric("iscl_node_series_closed_total", {"completeness": by})


@pytest.mark.fault(
    "reception",
    "slices in the middle of a series come later than the quiet time",
    "the series waits for them and is processed as one batch",
)
def test_a_series_with_a_gap_waits_for_the_late_slices(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    node, series = make_node(), make_series(8)
    send_without_the_middle(node, series)
    node.wait_for(lambda: waits(node, "waiting"), "the gap is noticed")
    (told,) = node.status()["incomplete"]
    assert (told["series"], told["state"], told["missing"]) == (uid_of(series), "incomplete", MISSING)
    send(node, [each.filename for each in series[2:4]])
    node.wait_for(lambda: node.states(uid_of(series)) == {"done"}, "the series is delivered")
    assert len(list((node.spool / "done" / uid_of(series)).iterdir())) == 1
    assert all(archive.derived_of(series).values())
    assert closed(node, "geometry") == 1


@pytest.mark.fault(
    "reception",
    "the sender vanishes and leaves a series with a gap; each policy",
    "behind the time-out it is processed; or in quarantine, from where a requeue has it processed; or held until a "
    "person closes it",
)
@pytest.mark.parametrize("policy", ["process", "quarantine", "wait"])
def test_what_becomes_of_a_series_whose_gap_stays(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries, policy: str
) -> None:
    node = make_node(rule=f"completeness = {{ timeout_seconds = 1, at_timeout = '{policy}' }}")
    series = make_series(8)
    send_without_the_middle(node, series)
    if policy == "quarantine":
        node.wait_for(lambda: node.states(uid_of(series)) == {"quarantine"}, "the series is in quarantine")
        assert MISSING in node.status()["quarantine"][0]["reason"]
        assert archive.counts() == {}
        assert node.command("requeue", uid_of(series)).returncode == 0
    if policy == "wait":
        node.wait_for(lambda: waits(node, "held"), "the series is held")
        assert node.states(uid_of(series)) == {"open"}
        assert node.command("close", uid_of(series)).returncode == 0
    node.wait_for(lambda: node.states(uid_of(series)) == {"done"}, "the series is delivered")
    assert len(archive.counts()) == 6
    assert closed(node, "timeout") == (0 if policy == "wait" else 1)


@pytest.mark.fault(
    "machine",
    "the node is killed while an incomplete series waits",
    "it waits on after the restart, and is processed as one batch when the late slices come",
)
def test_a_killed_node_waits_on(make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries) -> None:
    node, series = make_node(), make_series(8)
    send_without_the_middle(node, series)
    node.wait_for(lambda: waits(node, "waiting"), "the gap is noticed")
    node.kill()
    node.start()
    node.wait_for(lambda: waits(node, "waiting"), "the gap is noticed again")
    send(node, [each.filename for each in series[2:4]])
    node.wait_for(lambda: node.states(uid_of(series)) == {"done"}, "the series is delivered")
    assert len(list((node.spool / "done" / uid_of(series)).iterdir())) == 1
    assert len(archive.counts()) == 8


MAY = 'may = ["store", "receive"]'
ASK = "completeness = { ask = 'archive', fetch = true }"


@pytest.mark.peers
@pytest.mark.fault(
    "reception",
    "the sender vanishes behind a contiguous half of a series, and Orthanc has all of it",
    "the other half is fetched from Orthanc by C-MOVE, and all is processed as one batch",
)
def test_the_other_half_is_fetched_from_the_archive(tmp_path: Path, bundle: Path, make_series: MakeSeries) -> None:
    series, orthanc = make_series(8), Orthanc(tmp_path / "orthanc")
    node = Node(tmp_path / "node", orthanc.port, bundle, rule=ASK)
    node.change_settings(MAY, 'may = ["store", "receive", "query"]')
    try:
        orthanc.start(node.port)
        node.start()
        for each in series:
            orthanc.post("/instances", Path(each.filename).read_bytes())
        send(node, [each.filename for each in series[:4]])
        node.wait_for(lambda: node.states(uid_of(series)) == {"done"}, "the series is delivered")
        assert len(node.files("done", uid_of(series))) == 8
        assert len(list((node.spool / "done" / uid_of(series)).iterdir())) == 1
        assert closed(node, "list") == 1
        assert len(orthanc.get("/instances")) == 16
    finally:
        node.close()
        orthanc.close()


@pytest.mark.fault(
    "peers",
    "the peer that is to be asked what it has of a series is down, and then offers no queries",
    "geometry decides, and the series is delivered",
)
def test_a_peer_that_cannot_be_asked_holds_up_nothing(
    archive: RecordingArchive, tmp_path: Path, bundle: Path, make_series: MakeSeries
) -> None:
    down, up = make_series(3, "down"), make_series(3, "up")
    node = Node(tmp_path / "node", archive.port, bundle, rule=ASK)
    node.change_settings(MAY, 'may = ["store", "receive", "query"]')
    archive.stop()
    try:
        node.start()
        send(node, [each.filename for each in down])
        node.wait_for(lambda: closed(node, "geometry") == 1, "the series is closed")
        archive.start()
        send(node, [each.filename for each in up])
        node.wait_for(lambda: closed(node, "geometry") == 2, "the other series is closed")
        node.wait_for(lambda: len(archive.counts()) == 6, "both are delivered")
    finally:
        node.close()


@pytest.fixture
def silent_peer() -> Iterator[tuple[int, threading.Event]]:
    """A peer that takes queries and does not answer: its port, and whether it was asked."""
    asked, let_go = threading.Event(), threading.Event()

    def on_find(_event: Event) -> Iterator[tuple[int, None]]:
        asked.set()
        let_go.wait(PATIENCE_SECONDS)
        yield 0x0000, None

    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    yield server.server_address[1], asked
    let_go.set()
    server.shutdown()


@pytest.mark.fault(
    "machine",
    "SIGTERM while a peer that is asked what it has does not answer",
    "the node ends without waiting for the peer",
)
def test_sigterm_does_not_wait_for_a_peer_that_is_asked(
    silent_peer: tuple[int, threading.Event], tmp_path: Path, bundle: Path, make_series: MakeSeries
) -> None:
    port, asked = silent_peer
    node, series = Node(tmp_path / "node", port, bundle, rule=ASK), make_series(3)
    node.change_settings(MAY, 'may = ["store", "receive", "query"]')
    try:
        node.start()
        send(node, [each.filename for each in series])
        node.wait_for(asked.is_set, "the peer is asked")
        node.terminate()
        assert node.exit_code(40) == 0  # the peer would have 60 s
    finally:
        node.close()
