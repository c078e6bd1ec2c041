"""Whatever comes, at whatever level: an outcome that is meant, in time and in bounded memory, and the node goes on.

``make test`` gives each level some hundred inputs, ``make test-long`` more than 100 000 in all. An input is made from
its number: ``python tests/fuzz/campaign.py LEVEL NUMBER 1 FOLDER`` repeats one, with PYTHONPATH=.:tests:tests/network.
"""

import os
from pathlib import Path

import pytest
from campaigns import Campaign, run, split

PROCESSES = min(4, os.cpu_count() or 1)
SHARE = float(os.environ.get("ISCL_NODE_FUZZ_SHARE", "1"))


def share(inputs: int) -> int:
    """How many of so many inputs are given."""
    return max(1, round(inputs * SHARE))


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
    assert run(split("files", share(20_000), PROCESSES), tmp_path).inputs == share(20_000)


@pytest.mark.long
@pytest.mark.fault("reception", "60 000 files that lie", "read, or refused with 0xC000 or 0xA900, in bounded memory")
def test_many_headers(tmp_path: Path) -> None:
    report = run(split("headers", share(60_000), PROCESSES), tmp_path)
    assert report.inputs == share(60_000)
    assert set(report.outcomes) == {"read", "refused A900", "refused C000"}


@pytest.mark.fault(
    "peers",
    "PDUs that are broken, or come when they should not, on connections that end or hang",
    "aborted, rejected, dropped or answered, in time; no thread dies, others are served",
)
def test_pdus(tmp_path: Path) -> None:
    report = run([Campaign("pdus", 0, 60)], tmp_path)
    assert report.inputs == 60
    assert any("aborted" in outcome for outcome in report.outcomes)


@pytest.mark.long
def test_many_pdus(tmp_path: Path) -> None:
    assert run(split("pdus", share(8_000), 2 * PROCESSES), tmp_path).inputs == share(8_000)


@pytest.mark.fault(
    "peers",
    "commands and data sets that lie, in fragments that may lie, too",
    "a failure status or the end of the association; success only for what is in the spool as it was sent",
)
def test_messages(tmp_path: Path) -> None:
    report = run([Campaign("messages", 0, 200)], tmp_path)
    assert report.inputs == 200
    for answer in ("8001 0000", "8001 Cxxx", "8030 0000", "aborted"):
        assert any(answer in outcome for outcome in report.outcomes), answer


@pytest.mark.long
def test_many_messages(tmp_path: Path) -> None:
    assert run(split("messages", share(15_000), PROCESSES), tmp_path).inputs == share(15_000)


@pytest.mark.fault(
    "delivery",
    "a destination that answers to store, commit, find or move with what is no answer, or too late, or never",
    "left in time: tried again later, or refused; no thread dies or is left behind",
)
def test_destinations(tmp_path: Path) -> None:
    report = run([Campaign("destinations", 0, 40)], tmp_path)
    assert report.inputs == 40
    assert any("RetryLaterError" in outcome for outcome in report.outcomes)


@pytest.mark.long
def test_many_destinations(tmp_path: Path) -> None:
    assert run(split("destinations", share(4_000), 3 * PROCESSES), tmp_path).inputs == share(4_000)
