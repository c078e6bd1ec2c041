"""A person has a delivered series made, or sent, once more, while the node runs or before it starts again."""

import pytest
from archive import RecordingArchive
from delivery import files_of, series_uid_of, wait_until_done
from node import MakeNode
from sending import MakeSeries, send

pytestmark = pytest.mark.peers


def test_redo_after_another_strength_makes_a_series_beside_the_first_and_resend_sends_it_again(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    node = make_node()
    series = make_series(2)
    uid = series_uid_of(series)
    send(node, files_of(series))
    wait_until_done(node, series)
    node.terminate()
    node.exit_code(90)
    node.change_settings("when = { Modality", "strength = 0.5\nwhen = { Modality")
    redone = node.command("redo", uid)
    node.start()
    wait_until_done(node, series)
    made = [len({str(each.SeriesInstanceUID) for each in found}) for found in archive.derived_of(series).values()]

    resent = node.command("resend", uid, "--to", "archive")
    node.wait_for(lambda: sorted(archive.counts().values()) == [1, 1, 2, 2], "the second series is sent once more")
    wait_until_done(node, series)

    assert (redone.returncode, resent.returncode) == (0, 0), redone.stderr + resent.stderr
    assert made == [2, 2]
    assert {len(found) for found in archive.derived_of(series).values()} == {2}  # the same objects
