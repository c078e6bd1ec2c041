"""What all parts of the node use: one of each, made before them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from prometheus_client import CollectorRegistry

from iscl_node import __version__
from iscl_node.assembly.calling import Calling
from iscl_node.assembly.opening import opened_spool
from iscl_node.dicom.selecting.rules import check_rules
from iscl_node.domain import Peer, Rule
from iscl_node.metrics import Metrics
from iscl_node.pipeline.engine.fence import fence_of
from iscl_node.pipeline.engine.leases import NoLease, taken_lease
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.workers import Worker
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.workflows.batch import STEP_ORDER_VERSION
from iscl_node.pipeline.workflows.commitment_reports import CommitmentReports
from iscl_node.settings import Settings
from iscl_node.store.identity import settle_identity
from iscl_node.store.records.running_time import RunningTime
from iscl_node.store.spool import Spool

_REPORT_SECONDS: Final = 3
"""How long the report on a storage commitment is waited for on the association on which it was asked for."""


@dataclass(frozen=True)
class Shared:
    """What the parts of a node have in common; ``lock`` keeps the spool from other nodes as long as it is open."""

    settings: Settings
    rules: Sequence[Rule]
    peers: Mapping[str, Peer]
    metrics: Metrics
    lease: NoLease
    shutdown: Shutdown
    spool: Spool
    lock: BinaryIO
    headers: KeptHeaders
    running_time: RunningTime
    reports: CommitmentReports
    calling: Calling

    @property
    def worker(self) -> str | None:
        """Whose workflows are looked after; None: all, because the node is alone."""
        return self.settings.worker_name if self.settings.has_postgresql else None


def shared_parts(settings: Settings, memory: Path) -> Shared:
    """Take the lease and the spool, and make what needs nothing else.

    Parameters
    ----------
    settings : Settings
        What the user wants.
    memory : Path
        A file outside of the spool that keeps the spool's ID.

    Raises
    ------
    ConfigurationError
        The node cannot start like this.
    """
    rules = settings.known_rules()
    check_rules(rules)
    metrics = Metrics(CollectorRegistry())
    lease = taken_lease(settings.database_url, Worker(settings.worker_name, settings.role, STEP_ORDER_VERSION))
    lease.belong_to(settle_identity(settings.spool_dir, memory, __version__, lease.spool_id()))
    spool, lock = opened_spool(settings)
    headers, shutdown = KeptHeaders(), fence_of(lease)
    peers = {peer.name: peer for peer in settings.known_peers()}
    reports = CommitmentReports(peers)
    calling = Calling(settings.scp.ae_title, reports, _REPORT_SECONDS, metrics, shutdown, headers)
    running_time = RunningTime(spool.root)
    return Shared(
        settings, rules, peers, metrics, lease, shutdown, spool, lock, headers, running_time, reports, calling
    )
