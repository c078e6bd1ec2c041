"""The node's calls to its peers: to send, to have kept, to find, to fetch and to verify; each in the node's name."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from iscl_node.dicom.deriving.transcoding import native
from iscl_node.domain import CommitmentReport, InstanceReference, Peer, StoreAnswer
from iscl_node.metrics import Metrics
from iscl_node.network.dicomweb import qido, stow
from iscl_node.network.scu import commitment_report, query, storage_commitment, storage_scu, verification
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.workflows.commitment_reports import CommitmentReports


class Calling:
    """Calls peers.

    Parameters
    ----------
    ae_title : str
        The node's.
    reports : CommitmentReports
        Keeps the reports that come on the association on which they were asked for.
    report_seconds : float
        How long those are waited for.
    metrics : Metrics
        Counts what is sent.
    shutdown : Shutdown
        Asked after each instance, which is the last if it says so.
    headers : KeptHeaders
        Reads what is sent.
    """

    def __init__(
        self,
        ae_title: str,
        reports: CommitmentReports,
        report_seconds: float,
        metrics: Metrics,
        shutdown: Shutdown,
        headers: KeptHeaders,
    ) -> None:
        self._ae_title = ae_title
        self._reports = reports
        self._report_seconds = report_seconds
        self._metrics = metrics
        self._shutdown = shutdown
        self._headers = headers

    def send(self, peer: Peer, files: Sequence[Path], answered: Callable[[StoreAnswer], object]) -> None:
        """Send files by C-STORE or STOW-RS; ``answered`` is called with each answer."""

        def kept(answer: StoreAnswer) -> None:
            answered(answer)
            self._shutdown.check()

        if peer.web is not None:
            stow.send(peer, files, self._metrics, native, kept, self._headers.stream)
        else:
            storage_scu.send(peer, self._ae_title, files, self._metrics, native, kept, self._headers.stream)

    def commit(
        self, peer: Peer, transaction_uid: str, instances: Sequence[InstanceReference]
    ) -> CommitmentReport | None:
        """Request storage commitment; the report, if it comes at once."""
        is_reported = partial(self._reports.is_kept, transaction_uid)
        request = peer, self._ae_title, transaction_uid, instances
        return storage_commitment.request(*request, self._report_seconds, self._reports.keep, is_reported)

    def report(self, peer: Peer, report: CommitmentReport, asked: Sequence[InstanceReference]) -> None:
        """Report to a sender which of its instances are kept."""
        commitment_report.send_report(peer, self._ae_title, report, asked)

    def find(self, peer: Peer, study_uid: str, series_uid: str, sent: Collection[str] = ()) -> frozenset[str]:
        """The SOP Instance UIDs that a peer has of a series, by C-FIND or QIDO-RS."""
        if peer.web is not None:
            return qido.find_instances(peer, study_uid, series_uid, sent)
        return query.find_instances(peer, self._ae_title, study_uid, series_uid, sent)

    def move(self, peer: Peer, study_uid: str, series_uid: str, sop_uids: Sequence[str]) -> query.MoveResult:
        """Have a peer send instances to the node, by C-MOVE."""
        return query.move_instances(peer, self._ae_title, study_uid, series_uid, sop_uids)


def verify(peer: Peer, ae_title: str) -> float:
    """Seconds until a peer answered a C-ECHO or a QIDO-RS.

    Raises
    ------
    RetryLaterError
        It does not; the message says why.
    """
    return verification.echo(peer, ae_title) if peer.web is None else qido.verify(peer)
