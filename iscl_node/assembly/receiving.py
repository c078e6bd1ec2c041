"""What takes instances in, and what closes their series."""

from functools import partial

from iscl_node.assembly.node_audit import NodeAudit
from iscl_node.assembly.shared import Shared
from iscl_node.domain import CommitmentReport
from iscl_node.network.commitment_reports import UnknownTransactionError
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.pipeline.reception.closing import SeriesCloser
from iscl_node.pipeline.reception.commitments import SenderCommitments
from iscl_node.pipeline.reception.completeness import Completeness
from iscl_node.pipeline.reception.peer_lists import PeerListings
from iscl_node.pipeline.reception.receive import reception
from iscl_node.pipeline.workflows.reconcile import Reconcile
from iscl_node.retry import Backoff
from iscl_node.store.receiving.open_series import OpenSeries


def storage_scp(shared: Shared, audit: NodeAudit, commitments: SenderCommitments | None) -> StorageScp | None:
    """The port that the PACS sends to; None of a node that only works."""
    scp = shared.settings.scp
    if shared.settings.role == "work":
        return None
    return StorageScp(
        ae_title=scp.ae_title,
        host=scp.host,
        port=scp.port,
        peers=[peer for peer in shared.peers.values() if peer.web is None],
        accept_unknown_peers=scp.accept_unknown_peers,
        receive=reception(shared.spool, shared.metrics, audit.of_series, shared.headers),
        metrics=shared.metrics,
        limits=scp.limits(),
        tls=scp.known_tls(),
        refused=audit.refused,
        report=shared.reports.keep if commitments is None else partial(_kept, shared, commitments),
        commitments=commitments,
    )


def _kept(shared: Shared, commitments: SenderCommitments, ae_title: str, report: CommitmentReport) -> None:
    """A report is on what a sender asked for, or on what was sent."""
    try:
        commitments.keep_report(ae_title, report)
    except UnknownTransactionError:
        shared.reports.keep(ae_title, report)


def sender_commitments(shared: Shared) -> SenderCommitments | None:
    """What reports to senders which of their instances are kept; None of a node that commits to nothing."""
    settings = shared.settings
    commit, delivery = settings.scp.commit, settings.delivery
    if commit == "never":
        return None
    backoff = Backoff(delivery.first_retry_seconds, delivery.last_retry_seconds)
    archive_seconds = delivery.report_hours * 3600
    return SenderCommitments(
        commit, shared.spool, shared.peers, shared.calling, backoff, archive_seconds, shared.headers
    )


def series_closer(shared: Shared, reconcile: Reconcile) -> SeriesCloser:
    """What closes quiet series and has their workflows begin."""
    spool, metrics = shared.spool, shared.metrics
    quiet_seconds = shared.settings.scp.quiet_seconds
    listings = PeerListings(shared.peers, shared.calling.find, shared.calling.move)
    open_series = OpenSeries(spool.root)
    completeness = Completeness(open_series, shared.rules, quiet_seconds, listings, metrics, headers=shared.headers)
    return SeriesCloser(spool, quiet_seconds, completeness, reconcile.begin, metrics)
