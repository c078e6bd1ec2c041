"""What takes instances in, and what closes their series."""

from iscl_node.assembly.node_audit import NodeAudit
from iscl_node.assembly.shared import Shared
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.pipeline.reception.closing import SeriesCloser
from iscl_node.pipeline.reception.completeness import Completeness
from iscl_node.pipeline.reception.peer_lists import PeerListings
from iscl_node.pipeline.reception.receive import reception
from iscl_node.pipeline.workflows.reconcile import Reconcile
from iscl_node.store.receiving.open_series import OpenSeries


def storage_scp(shared: Shared, audit: NodeAudit) -> StorageScp | None:
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
        report=shared.reports.keep,
    )


def series_closer(shared: Shared, reconcile: Reconcile) -> SeriesCloser:
    """What closes quiet series and has their workflows begin."""
    spool, metrics = shared.spool, shared.metrics
    quiet_seconds = shared.settings.scp.quiet_seconds
    listings = PeerListings(shared.peers, shared.calling.find, shared.calling.move)
    open_series = OpenSeries(spool.root)
    completeness = Completeness(open_series, shared.rules, quiet_seconds, listings, metrics, headers=shared.headers)
    return SeriesCloser(spool, quiet_seconds, completeness, reconcile.begin, metrics)
