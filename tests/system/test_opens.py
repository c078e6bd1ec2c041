"""How often the node opens each file that it was sent or made: every read is disk, cache and time of a large series."""

import os
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import files_of, series_uid_of, wait_until_done
from factories import soft_tissue
from node import Node
from open_counter import OpenCounter, as_text
from sending import MakeSeries, send
from surroundings import REPOSITORY

from iscl_node.conformance.services import COMPREHENSIVE_SR_STORAGE, PARAMETRIC_MAP_STORAGE
from iscl_node.domain import CT_STORAGE

pytestmark = pytest.mark.peers

SLICES = 12
SIDE = 128
"""Of the images: pixels of more than 16 KB are not read with the header."""
RECEIVED, DERIVED = 3, 2
"""The most opens of a file that was received, after it was stored, and of one that was derived; only ever lowered."""

EVERYTHING = 'noise_map = true\nreport = true\n[audit]\nfile = "{folder}/audit.log"\n'


@pytest.mark.parametrize("rule", ["", EVERYTHING], ids=["plain", "with noise map, report and audit"])
def test_no_file_is_opened_more_often_than_planned(
    rule: str,
    tmp_path: Path,
    bundle: Path,
    make_series: MakeSeries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = OpenCounter(tmp_path / "counter")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(counter.folder), str(REPOSITORY)]))
    archive = RecordingArchive(sop_classes=(*CT_STORAGE, PARAMETRIC_MAP_STORAGE, COMPREHENSIVE_SR_STORAGE))
    archive.start()
    node = Node(tmp_path / "node", archive.port, bundle, rule=rule.format(folder=tmp_path))
    series = make_series(SLICES, pixels=soft_tissue(side=SIDE))
    node.start()
    try:
        send(node, files_of(series))
        wait_until_done(node, series)
    finally:
        node.close()
        archive.stop()

    counts = counter.counts()
    received = {f"{each.SOPInstanceUID}.dcm" for each in series}
    assert received <= set(counts), series_uid_of(series)
    derived = set(counts) - received
    assert len(derived) >= SLICES
    assert max(counts[name] for name in received) <= RECEIVED, as_text(counts)
    assert max(counts[name] for name in derived) <= DERIVED, as_text(counts)
