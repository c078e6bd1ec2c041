"""``kill -9`` and SIGTERM in the middle of every step; the next start brings the series to its end.

Each test ends with the same claim: exactly one derived instance for each source, the same to the byte however
often it was sent, and nothing left but the delivered series in the spool.
"""

import os
import signal
from pathlib import Path

import pytest
from archive import RecordingArchive
from bundles import slow_bundle
from delivery import assert_delivered, files_of, series_uid_of, wait_until_done
from node import PATIENCE_SECONDS, MakeNode
from sending import MakeSeries, send, storescu
from surroundings import REPOSITORY

pytestmark = pytest.mark.peers

KILLED_WHEN_IT_HAS_DECIDED = """
import os, signal, sys

def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(".plan.json"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
"""
"""As ``sitecustomize`` of a node: what it decided of a batch, under its name, would be the next thing it does."""


@pytest.mark.fault(
    "machine",
    "`kill -9` while instances arrive",
    "what was acknowledged is in the spool; after a restart and a repetition each source has one derived instance",
)
def test_kill_while_receiving(make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries) -> None:
    series = make_series(60)
    uid = series_uid_of(series)
    node = make_node()
    sender = storescu(node, files_of(series))
    node.wait_for(lambda: len(node.files("open", uid)) >= 5, "some instances have arrived")

    node.kill()
    arrived = len(node.files("open", uid)) + len(node.files("closed", uid))
    output, _ = sender.communicate(timeout=PATIENCE_SECONDS)
    node.start()
    send(node, files_of(series))
    wait_until_done(node, series)

    assert sender.returncode != 0
    assert output.count("Received Store Response (Success)") <= arrived < len(series)
    assert not list((node.spool / "receiving").glob("*/*"))
    assert_delivered(node, archive, series)


@pytest.mark.fault(
    "machine",
    "`kill -9` while a series is checked",
    "the check is not recorded as done; the next start brings the series to its end",
)
def test_kill_while_checking(
    make_node: MakeNode,
    archive: RecordingArchive,
    make_series: MakeSeries,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = make_series(4)
    (tmp_path / "sitecustomize.py").write_text(KILLED_WHEN_IT_HAS_DECIDED)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
        node = make_node()
    send(node, files_of(series))
    assert node.exit_code(PATIENCE_SECONDS) == -signal.SIGKILL

    assert "check" not in (node.steps_done(series_uid_of(series)) or ())
    node.start()
    wait_until_done(node, series)

    assert_delivered(node, archive, series)


@pytest.mark.fault(
    "machine",
    "`kill -9` while instances are derived",
    "derived instances that are on disk are not computed again, the others are",
)
def test_kill_while_deriving(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries, tmp_path: Path
) -> None:
    series = make_series(4)
    uid = series_uid_of(series)
    node = make_node(slow_bundle(tmp_path / "bundle", seconds=0.7))
    send(node, files_of(series))
    node.wait_for(lambda: len(node.files("outbox", uid)) >= 2, "two instances are derived")

    node.kill()
    before = {path.stem: path.read_bytes() for path in node.files("outbox", uid)}
    node.start()
    wait_until_done(node, series)

    assert 2 <= len(before) < 4
    derived = {str(each.SOPInstanceUID): each for each in assert_delivered(node, archive, series)}
    for sop_uid, content in before.items():
        assert derived[sop_uid].ContentTime.encode() in content  # not computed again


@pytest.mark.fault(
    "machine",
    "`kill -9` while the destination has not answered yet",
    "that instance is sent again under the same UID, the others once",
)
def test_kill_while_sending(make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries) -> None:
    series = make_series(4)
    archive.hold()
    node = make_node()
    send(node, files_of(series))
    node.wait_for(lambda: archive.counts().total() == 1, "the archive has one instance and does not answer")

    node.kill()
    archive.let_go()
    node.start()
    wait_until_done(node, series)

    assert_delivered(node, archive, series)
    assert sorted(archive.counts().values()) == [1, 1, 1, 2]


@pytest.mark.fault(
    "machine",
    "`kill -9` when one destination has everything and the other is down",
    "the one gets nothing again; released when the other has it",
)
def test_kill_between_two_destinations(make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries) -> None:
    """The one that has everything gets nothing again, and the series is not released before the other has it."""
    series = make_series(2)
    uid = series_uid_of(series)
    mirror = RecordingArchive()
    node = make_node()
    node.terminate()
    node.exit_code(seconds=30)
    node.change_settings('[[rules]]\nname = "CT"', _MIRROR.format(port=mirror.port) + '[[rules]]\nname = "CT"')
    node.change_settings(_TO_ARCHIVE, _TO_ARCHIVE.replace('"archive"', '"mirror", "archive"'))
    node.start()
    send(node, files_of(series))
    node.wait_for(lambda: archive.counts().total() == 2, "the archive behind the one that is down has everything")
    node.wait_for(lambda: "send" in (node.steps_done(uid) or ()), "the node knows so")

    node.kill()
    node.start()
    assert node.states(uid) == {"closed", "outbox"}
    mirror.start()
    try:
        wait_until_done(node, series)
        assert_delivered(node, mirror, series)
    finally:
        mirror.stop()

    assert_delivered(node, archive, series)
    assert set(archive.counts().values()) == {1}


_TO_ARCHIVE = 'when = { Modality = "CT" }\nsend_to = ["archive"]'
_MIRROR = """
[[peers]]
name = "mirror"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}
may = ["receive"]
confirm = "none"
"""


@pytest.mark.fault(
    "machine", "`kill -9` after the series was sent", "nothing is sent again; the series is released at the next start"
)
def test_kill_while_releasing(make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries) -> None:
    series = make_series(4)
    uid = series_uid_of(series)
    node = make_node()
    send(node, files_of(series))
    node.wait_for(lambda: "send" in (node.steps_done(uid) or ()), "the series is sent")

    node.kill()
    node.start()
    wait_until_done(node, series)

    assert_delivered(node, archive, series)
    assert set(archive.counts().values()) == {1}


@pytest.mark.fault(
    "machine",
    "SIGTERM while instances are derived",
    "the slice that is being made is finished, the exit code is 0; the next start derives the others",
)
def test_sigterm_finishes_the_slice_in_hand(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries, tmp_path: Path
) -> None:
    series = make_series(5)
    uid = series_uid_of(series)
    node = make_node(slow_bundle(tmp_path / "bundle", seconds=0.7))
    send(node, files_of(series))
    node.wait_for(lambda: len(node.files("outbox", uid)) >= 2, "two instances are derived")

    node.terminate()
    code = node.exit_code(seconds=30)
    derived = len(node.files("outbox", uid))
    steps = node.steps_done(uid)
    node.start()
    wait_until_done(node, series)

    assert code == 0, node.log_tail()
    assert 2 <= derived < 5  # 3, if the signal came within the slice
    assert sorted(steps or ()) == sorted(["audit", "check", "make", "planned", *["derive"] * derived])
    assert_delivered(node, archive, series)


@pytest.mark.fault(
    "machine",
    "SIGTERM while a large series is sent",
    "the instance that is being sent is the last; the exit code is 0, the next start sends the others, and each once",
)
def test_sigterm_ends_the_sending_after_the_instance_in_hand(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(20)
    archive.hold()
    node = make_node()
    send(node, files_of(series))
    node.wait_for(lambda: archive.counts().total() == 1, "the archive has one instance and does not answer")

    node.terminate()
    node.wait_for(lambda: "node.stop_requested" in node.log(), "the node stops")
    archive.let_go()
    code = node.exit_code(seconds=90)
    sent = archive.counts().total()
    node.start()
    wait_until_done(node, series)

    assert code == 0, node.log_tail()
    assert sent < 20  # the archive answers what it has in hand after the node was told, and no more
    assert_delivered(node, archive, series)
    assert set(archive.counts().values()) == {1}


@pytest.mark.fault(
    "machine", "SIGTERM while the destination is down", "the exit code is 0; the next start delivers the series"
)
def test_sigterm_while_the_archive_is_down(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(2)
    archive.stop()
    node = make_node()
    send(node, files_of(series))
    retries = "iscl_node_retries_total"
    node.wait_for(lambda: node.metric(retries, {"step": "send"}) >= 1, "an attempt to send")

    node.terminate()
    code = node.exit_code(seconds=30)
    archive.start()
    node.start()
    wait_until_done(node, series)

    assert code == 0, node.log_tail()
    assert_delivered(node, archive, series)
