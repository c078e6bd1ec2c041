"""What is done with a report on a storage commitment: it is on disk before it is answered."""

from collections.abc import Mapping

from iscl_node.domain import CommitmentReport, Peer
from iscl_node.network.commitment_reports import Report, UnknownTransactionError
from iscl_node.store.commitments import Commitments


def commitment_reports(commitments: Commitments, peers: Mapping[str, Peer]) -> Report:
    """Make the function that takes reports; what comes of them is the matter of :mod:`.confirmation`.

    Parameters
    ----------
    commitments : Commitments
        Knows what was asked for.
    peers : mapping of str to Peer
        Destinations by name.
    """

    def keep(ae_title: str, report: CommitmentReport) -> None:
        peer = peers.get(commitments.destination_of(report.transaction_uid) or "")
        if peer is None or peer.ae_title != ae_title or not commitments.keep_report(report):
            raise UnknownTransactionError("this peer was not asked for it, or its batch has ended")

    return keep
