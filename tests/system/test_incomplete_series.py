"""Series with gaps: the late slice, the sender that vanishes, and what each policy makes of it."""

import pytest
from archive import RecordingArchive
from node import MakeNode, Node
from pydicom.dataset import FileDataset
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
