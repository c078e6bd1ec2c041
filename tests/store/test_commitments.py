"""Requests for storage commitment and the reports on them, over restarts."""

from pathlib import Path

import pytest

from iscl_node.domain import Batch, CommitmentReport
from iscl_node.store.commitments import Commitments
from iscl_node.store.spool import Spool

BATCH, OTHER = Batch("1.2.3", "20261122T235959.123456Z"), Batch("1.2.4", "20261122T235959.123456Z")


def names(spool: Spool) -> list[str]:
    return sorted(path.name for path in (spool.root / "commitments").iterdir())


@pytest.mark.fault(
    "machine",
    "the node is killed after it asked for storage commitment, or after a report came",
    "the next start knows both",
)
def test_requests_and_reports_survive_a_restart(spool: Spool) -> None:
    commitments = Commitments(spool.root)
    first = commitments.begin(BATCH, "pacs", 0, 1_000.0)
    second = commitments.begin(BATCH, "pacs", 0, 2_000.0)
    commitments.begin(BATCH, "pacs", 1, 3_000.0)
    commitments.begin(BATCH, "vault", 0, 3_000.0)
    report = CommitmentReport(second.uid, frozenset({"2.25.1"}), {"2.25.2": 0x0112})
    assert commitments.keep_report(report)

    again = Commitments(spool.root)
    assert again.of(BATCH, "pacs", 0) == [first, second]
    assert [again.report(each) for each in (first, second)] == [None, report]
    assert [again.is_reported(each.uid) for each in (first, second)] == [False, True]
    assert again.destination_of(first.uid) == "pacs"


def test_a_report_on_nothing_leaves_nothing(spool: Spool) -> None:
    assert not Commitments(spool.root).keep_report(CommitmentReport("../../1.2", frozenset(), {}))
    assert names(spool) == []


def test_what_belongs_to_a_batch_that_ended_goes(spool: Spool) -> None:
    commitments = Commitments(spool.root)
    ended = commitments.begin(BATCH, "pacs", 0, 1_000.0)
    kept = commitments.begin(OTHER, "pacs", 0, 1_000.0)
    commitments.keep_report(CommitmentReport(ended.uid, frozenset(), {}))
    commitments.forget_all_but([OTHER])
    assert names(spool) == [f"{kept.uid}.json"]
    assert not commitments.keep_report(CommitmentReport(ended.uid, frozenset(), {}))


@pytest.mark.parametrize("leftover", ["2.25.1.json.part", "2.25.1.report.json", "2.25.1.json"])
def test_what_a_kill_left_goes_at_the_next_start(spool: Spool, leftover: str) -> None:
    path: Path = spool.root / "commitments" / leftover
    path.write_bytes(b'{"ser')
    assert Commitments(spool.root).of(BATCH, "pacs", 0) == []
    assert names(spool) == []
