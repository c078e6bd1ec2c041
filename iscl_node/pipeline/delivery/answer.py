"""What a destination answered to the question whether it keeps a batch.

It waits in the workflow database until it is concluded from, so it is made of plain values.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NotRequired, TypedDict

from iscl_node.domain import CommitmentReport

COMMITMENT: Final = "commitment"
QUERY: Final = "query"
NOT_ASKED: Final = "none"


class Answer(TypedDict):
    """By which ``way`` a destination was asked, and what it keeps.

    ``failed`` has the Failure Reason (PS3.3 C.14.1.1) by SOP Instance UID; ``refusal`` is why it is asked no more;
    ``wait_seconds`` says that it did not answer this question, and when it is to be asked again.
    """

    way: str
    committed: list[str]
    failed: Mapping[str, int]
    transaction_uid: NotRequired[str]
    refusal: NotRequired[str]
    wait_seconds: NotRequired[float]


def reported(report: CommitmentReport) -> Answer:
    """What a storage commitment report says."""
    return Answer(
        way=COMMITMENT,
        committed=sorted(report.committed),
        failed=dict(report.failed),
        transaction_uid=report.transaction_uid,
    )


def found(sop_uids: Iterable[str]) -> Answer:
    """What C-FIND says."""
    return Answer(way=QUERY, committed=sorted(sop_uids), failed={})


def not_asked() -> Answer:
    """Nothing need be confirmed."""
    return Answer(way=NOT_ASKED, committed=[], failed={})


def not_now(wait_seconds: float) -> Answer:
    """It does not answer this question now."""
    return Answer(way=NOT_ASKED, committed=[], failed={}, wait_seconds=wait_seconds)


def refused(reason: str) -> Answer:
    """It will never confirm."""
    return Answer(way=NOT_ASKED, committed=[], failed={}, refusal=reason)
