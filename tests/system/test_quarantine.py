"""A person decides, while the node runs, what becomes of a series in quarantine."""

import json
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of, series_uid_of, wait_until_done
from node import PATIENCE_SECONDS, MakeNode
from sending import MakeSeries, send

pytestmark = pytest.mark.peers


def test_export_release_and_send_again(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries, tmp_path: Path
) -> None:
    node = make_node()
    without_scale = make_series(2, "without scale", RescaleSlope=0)
    good = make_series(2, "good")
    uid = series_uid_of(without_scale)
    send(node, [*files_of(without_scale), *files_of(good)])
    wait_until_done(node, good)
    node.wait_for(lambda: node.states(uid) == {"quarantine"}, "the quarantine")
    node.wait_for(lambda: node.metric("iscl_node_quarantine_oldest_seconds") > 0, "the age of what is in quarantine")

    exported = node.command("export", uid, str(tmp_path / "copy"))
    asked = node.command("release", uid)
    kept = node.states(uid)
    released = node.command("release", uid, "--yes")

    assert exported.returncode == 0, exported.stderr
    copies = sorted((tmp_path / "copy").rglob("*.dcm"))
    assert len(copies) == 2
    assert "Rescale Slope 0" in next((tmp_path / "copy").rglob("reason.txt")).read_text()
    assert (asked.returncode, kept) == (1, {"quarantine"})
    assert released.returncode == 0, released.stderr
    assert not node.states(uid)
    assert json.loads((node.spool / "releases.jsonl").read_text())["event"] == "released"
    node.wait_for(lambda: node.metric("iscl_node_quarantine_oldest_seconds") == 0, "an empty quarantine")
    send(node, copies)  # what was exported is whole, and what was released may come again
    node.wait_for(lambda: node.states(uid) == {"quarantine"}, "the quarantine")
    assert_delivered(node, archive, good)


@pytest.mark.fault(
    "reception",
    "another image under the UID of a delivered one",
    "it is in quarantine; when a person releases it, what was delivered stays",
)
def test_another_image_under_a_known_uid_is_looked_at_and_released(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    node = make_node()
    series = make_series(2)
    send(node, files_of(series))
    wait_until_done(node, series)
    series[0].KVP = 80
    series[0].save_as(series[0].filename, enforce_file_format=True)
    send(node, files_of(series)[:1])

    (conflict,) = node.status()["quarantine"]
    assert conflict["batch"].startswith("conflict-")
    assert Path(conflict["path"]).is_dir()
    assert node.command("requeue", conflict["series"]).returncode == 2
    assert node.command("release", conflict["series"], "--batch", conflict["batch"], "--yes").returncode == 0
    assert node.status()["quarantine"] == []
    assert node.states(conflict["series"]) == {"done"}


@pytest.mark.fault(
    "spool", "the spool holds more than `max_bytes`", "the delivered series goes, the one in quarantine stays"
)
def test_a_full_spool_gives_up_what_was_delivered_and_nothing_else(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    node = make_node()
    without_scale = make_series(1, "without scale", RescaleSlope=0)
    good = make_series(2, "good")
    send(node, [*files_of(without_scale), *files_of(good)])
    node.wait_for(lambda: node.states(series_uid_of(without_scale)) == {"quarantine"}, "the quarantine")
    wait_until_done(node, good)
    assert_delivered(node, archive, good)
    node.terminate()
    node.exit_code(PATIENCE_SECONDS)

    node.change_settings("[spool]", "[spool]\nmax_bytes = 1")
    node.start()
    node.wait_for(lambda: not node.states(series_uid_of(good)), "the delivered series is gone")
    purged = "iscl_node_purged_batches_total"
    node.wait_for(lambda: node.metric(purged, {"cause": "space"}) == 1, "the count of what went for space")
    assert node.states(series_uid_of(without_scale)) == {"quarantine"}
