"""What is done with a report on a storage commitment: it is in the workflow database before it is answered."""

from collections import deque
from collections.abc import Callable, Mapping

from iscl_node.domain import CommitmentReport, Peer
from iscl_node.network.commitment_reports import UnknownTransactionError
from iscl_node.pipeline.delivery.answer import Answer, reported
from iscl_node.pipeline.engine.database_faults import not_waiting
from iscl_node.pipeline.engine.words import Work, find, send_message, under_way, wake
from iscl_node.pipeline.workflows.batch import CONFIRMATION, REPORT, place_of, report_identity

_REMEMBERED = 100


class CommitmentReports:
    """Hands reports to the workflows that wait for them.

    Parameters
    ----------
    peers : mapping of str to Peer
        Destinations by name.
    """

    conclude_late: Callable[[Work, Answer], object]
    """Called with the workflow that waited for a report in vain, and the report, if the destination is asked anew.
    Set before reports can come: the workflows are made later than this."""

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._kept: deque[str] = deque(maxlen=_REMEMBERED)

    def keep(self, ae_title: str, report: CommitmentReport) -> None:
        """Take a report; on return it is durable.

        After a restart, or when the report is late, a destination is asked anew: the report on either request is one on
        what it was sent. So an archive that needs longer than `report_hours` is not asked for ever.

        Raises
        ------
        UnknownTransactionError
            This peer was not asked for it.
        RetryLaterError
            It cannot be kept now.
        """
        with not_waiting("takes no report"):
            asked = find(report_identity(report.transaction_uid))
            peer = self._peers.get(asked.arguments[2]) if asked else None
            if asked is None or peer is None or peer.ae_title != ae_title:
                raise UnknownTransactionError("this peer was not asked for it")
            same = _of_the_same_round(asked)
            waiting = next((each for each in same if each.name == REPORT), None)
            if waiting is not None:
                send_message(waiting.identity, REPORT, reported(report), key=report.transaction_uid)
                wake(waiting.identity)
            elif same:
                self.conclude_late(asked, reported(report))
        self._kept.append(report.transaction_uid)

    def is_kept(self, transaction_uid: str) -> bool:
        """Whether a report on a request was taken a moment ago."""
        return transaction_uid in self._kept


def _of_the_same_round(asked: Work) -> list[Work]:
    """Who waits for a report on that round of that batch, or is about to; none if the round is over."""
    return under_way(identity=asked.identity) or [
        each for each in under_way([CONFIRMATION, REPORT]) if place_of(each) == place_of(asked)
    ]
