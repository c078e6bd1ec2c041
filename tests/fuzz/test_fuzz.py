"""Whatever comes, at whatever level: an outcome that is meant, in time and in bounded memory, and the node goes on.

``make test`` gives each level some hundred inputs, ``make test-long`` more than 100 000 in all. An input is made from
its number: ``python tests/fuzz/campaign.py LEVEL NUMBER 1 FOLDER`` repeats one, with PYTHONPATH=.:tests:tests/network.
"""

import os
from pathlib import Path

import pytest
from campaigns import Campaign, run, split

PROCESSES = min(4, os.cpu_count() or 1)


@pytest.mark.fault(
    "processing",
    "files that lie about tags, lengths, value representations, values, sequences, fragments or their encoding",
    "refused, ignored, in quarantine with a reason, or derived; nothing else, in bounded memory",
)
def test_files(tmp_path: Path) -> None:
    report = run([Campaign("files", 0, 200)], tmp_path)
    assert report.inputs == 200
    assert {"derived", "quarantine", "refused C000", "refused A900"} <= set(report.outcomes)


@pytest.mark.long
def test_many_files(tmp_path: Path) -> None:
    assert run(split("files", 80_000, PROCESSES), tmp_path).inputs == 80_000
