"""A node whose log nobody reads works on, and tells elsewhere that it is not read."""

import json
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of, wait_until_done
from node import Node
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

LOST = "iscl_node_log_lines_lost_total"
OUTPUTS = {
    "the reader is gone": "2> >(exec true)",
    "the disk is full": "2>/dev/full",
    "there is none": "2>&-",
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.fault(
    "machine",
    "standard error takes no line: its reader is gone or hangs, its disk is full, there is none",
    "everything is delivered; lines lost are counted, `/readyz` says so, alert `IsclNodeLogLost`",
)
def test_the_work_goes_on_without_a_log(
    output: str, tmp_path: Path, archive: RecordingArchive, bundle: Path, make_series: MakeSeries
) -> None:
    node = Node(tmp_path / "node", archive.port, bundle)
    node.wrapper = ("bash", "-c", f'exec "$@" {output}', "bash")
    series = make_series(2)
    try:
        node.start()
        send(node, files_of(series))
        wait_until_done(node, series)
        assert_delivered(node, archive, series)
        node.wait_for(lambda: node.metric(LOST), "lost lines are counted")
        assert json.loads(node.page("readyz"))["log_is_written"] is False
    finally:
        node.close()
