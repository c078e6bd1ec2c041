"""A series comes, its derived series goes to the archive, whatever mood the archive is in."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of, series_uid_of, wait_until_done
from node import Node, required_tool
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

SENT = "iscl_node_sent_instances_total"
RECEIVED = "iscl_node_received_instances_total"
BATCHES = "iscl_node_batches_total"
RETRIES = "iscl_node_retries_total"


def test_every_source_gets_one_derived_instance(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(4)

    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)

    derived = assert_delivered(shared_node, shared_archive, series)
    for source, result in zip(series, derived, strict=True):
        np.testing.assert_array_equal(result.pixel_array, source.pixel_array)
        assert result.ImagePositionPatient == source.ImagePositionPatient


def test_status_and_metrics_agree_with_what_happened(shared_node: Node, make_series: MakeSeries) -> None:
    series = make_series(3)
    samples = (
        (RECEIVED, {"calling_ae_title": "SENDER", "status": "0000"}, 3),
        (SENT, {"peer": "archive", "status": "0000"}, 3),
        (BATCHES, {"outcome": "done"}, 1),
    )
    values = [shared_node.metric(name, labels) for name, labels, _ in samples]
    done = shared_node.status()["batches"]["done"]

    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)

    batches = shared_node.status()["batches"]
    assert (batches["open"], batches["closed"], batches["done"]) == (0, 0, done + 1)
    for value, (name, labels, more) in zip(values, samples, strict=True):
        shared_node.wait_for(lambda: shared_node.metric(name, labels) == value + more, f"{name} grows by {more}")  # noqa: B023


def test_derived_instances_conform(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries, tmp_path: Path
) -> None:
    beside_python = Path(sys.executable).with_name("dciodvfy")
    dciodvfy = str(beside_python) if beside_python.exists() else required_tool("dciodvfy")
    series = make_series(2)

    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)

    for number, derived in enumerate(assert_delivered(shared_node, shared_archive, series)):
        path = tmp_path / f"derived{number}.dcm"
        derived.save_as(path)
        verdict = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, check=False).stderr
        assert "CTImage" in verdict
        assert [line for line in verdict.splitlines() if line.startswith("Error")] == []


def test_each_strength_gets_a_series_of_its_own(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(3, ProtocolName="TWO STRENGTHS")

    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)

    derived = [each for found in shared_archive.derived_of(series).values() for each in found]
    assert len(derived) == 6
    told = {(str(each.SeriesInstanceUID), each.SeriesDescription, each.SeriesNumber) for each in derived}
    assert sorted(description for _, description, _ in told) == ["THORAX AI denoised 100%", "THORAX AI denoised 50%"]
    assert len({number for _, _, number in told}) == 2


@pytest.mark.fault(
    "processing", "the node's own output comes back", "it is ignored with the reason, and not sent a second time"
)
def test_own_output_that_comes_back_is_left_alone(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries, tmp_path: Path
) -> None:
    series, marker = make_series(2), make_series(1, "marker")
    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)
    derived = assert_delivered(shared_node, shared_archive, series)
    for number, instance in enumerate(derived):
        instance.filename = tmp_path / f"back{number}.dcm"
        instance.save_as(instance.filename)

    send(shared_node, files_of(derived))
    send(shared_node, files_of(marker))
    wait_until_done(shared_node, marker)

    uid = series_uid_of(derived)
    shared_node.wait_for(lambda: shared_node.states(uid) == {"ignored"}, "own output is ignored")
    assert shared_node.status()["ignored"]["made by this node already"] == 1
    assert [shared_archive.counts()[str(each.SOPInstanceUID)] for each in derived] == [1, 1]


@pytest.mark.fault(
    "reception",
    "a slice arrives after its series was delivered",
    "its derived instance joins the derived series; each is sent once",
)
def test_late_slice_joins_the_derived_series(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(4)
    send(shared_node, files_of(series[:3]))
    wait_until_done(shared_node, series[:3])

    send(shared_node, files_of(series[3:]))
    wait_until_done(shared_node, series)

    derived = assert_delivered(shared_node, shared_archive, series)
    for keyword in ("SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "FrameOfReferenceUID"):
        assert len({str(each[keyword].value) for each in derived}) == 1, keyword
    assert set(shared_archive.counts()[str(each.SOPInstanceUID)] for each in derived) == {1}


@pytest.mark.fault("reception", "a delivered series is sent again", "no new work; no derived instance is sent again")
def test_series_that_is_sent_again_is_not_worked_on_again(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series, marker = make_series(3), make_series(1, "marker")
    before = shared_node.metric(BATCHES, {"outcome": "done"})
    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)
    # It is counted a moment after it was released.
    shared_node.wait_for(lambda: shared_node.metric(BATCHES, {"outcome": "done"}) > before, "the batch is counted")
    batches = shared_node.metric(BATCHES, {"outcome": "done"})

    send(shared_node, files_of(series))
    send(shared_node, files_of(marker))  # closed after the repetition would have been
    wait_until_done(shared_node, marker)

    shared_node.wait_for(lambda: shared_node.metric(BATCHES, {"outcome": "done"}) == batches + 1, "one more batch")
    assert shared_node.states(series_uid_of(series)) == {"done"}
    derived = assert_delivered(shared_node, shared_archive, series)
    assert [shared_archive.counts()[str(each.SOPInstanceUID)] for each in derived] == [1, 1, 1]


@pytest.mark.fault(
    "delivery", "the destination is down", "tried again until it is up, then it has every derived instance"
)
def test_archive_that_is_down_gets_the_series_when_it_is_up(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(3)
    retries = shared_node.metric(RETRIES, {"step": "send"})
    shared_archive.stop()
    send(shared_node, files_of(series))
    shared_node.wait_for(lambda: shared_node.metric(RETRIES, {"step": "send"}) >= retries + 2, "two attempts to send")

    shared_archive.start()
    wait_until_done(shared_node, series)

    assert_delivered(shared_node, shared_archive, series)


@pytest.mark.fault(
    "delivery", "the destination answers 0xA700", "tried again until it stores, then it has every derived instance"
)
def test_archive_that_is_full_gets_the_series_when_it_is_not(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(3)
    refused = {"peer": "archive", "status": "A700"}
    before = shared_node.metric(SENT, refused)
    shared_archive.answers.extend([0xA700, 0xA700])

    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)

    assert_delivered(shared_node, shared_archive, series)
    assert shared_node.metric(SENT, refused) == before + 2


@pytest.mark.fault(
    "delivery",
    "the destination answers 0xA900",
    "quarantine with the status; after `iscl-node requeue` everything is delivered",
)
def test_refused_series_waits_in_quarantine_until_it_is_requeued(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(3)
    uid = series_uid_of(series)
    shared_archive.answers.append(0xA900)
    send(shared_node, files_of(series))
    shared_node.wait_for(lambda: shared_node.states(uid) == {"quarantine"}, "the series is in quarantine")
    reasons = [each["reason"] for each in shared_node.status()["quarantine"] if each["series"] == uid]
    stored = shared_archive.derived_of(series)

    requeued = shared_node.command("requeue", uid)
    wait_until_done(shared_node, series)

    assert requeued.returncode == 0, requeued.stderr
    assert len(reasons) == 1
    assert "A900" in reasons[0]
    assert not any(stored.values())
    assert_delivered(shared_node, shared_archive, series)


@pytest.mark.fault(
    "spool",
    "the file system refuses to move a series that was delivered",
    "tried again until it moves; nothing is sent twice",
)
def test_batch_that_the_disk_does_not_let_go_moves_later(
    shared_node: Node,
    shared_archive: RecordingArchive,
    make_series: MakeSeries,
) -> None:
    series = make_series(2)
    settled = partial(shared_node.metric, RETRIES, {"step": "settle"})
    before = settled()
    in_the_way = shared_node.spool / "done" / series_uid_of(series)
    in_the_way.touch()
    send(shared_node, files_of(series))
    shared_node.wait_for(lambda: settled() > before, "an attempt to move it to done")

    in_the_way.unlink()
    wait_until_done(shared_node, series)

    derived = assert_delivered(shared_node, shared_archive, series)
    assert [shared_archive.counts()[str(each.SOPInstanceUID)] for each in derived] == [1, 1]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.fault("machine", "SIGHUP, SIGUSR1 or SIGUSR2: a terminal is closed, logs are rotated", "the node goes on")
def test_a_signal_of_log_rotation_stops_nothing(
    number: signal.Signals, shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(2)

    shared_node.signal(number)
    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)

    assert_delivered(shared_node, shared_archive, series)
    shared_node.wait_for(lambda: f'"signal": "{number.name}"' in shared_node.log(), "the log tells of the signal")
