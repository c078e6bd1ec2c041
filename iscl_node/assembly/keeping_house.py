"""What is done again and again."""

from functools import partial

from iscl_node.assembly.receiving import series_closer
from iscl_node.assembly.shared import Shared
from iscl_node.pipeline.engine.ended import forget_ended
from iscl_node.pipeline.engine.takeover import takeover_of
from iscl_node.pipeline.housekeeping import Housekeeping
from iscl_node.pipeline.workflows.reconcile import Reconcile
from iscl_node.store.batches.recovery import clear_receiving
from iscl_node.store.known_folders import KnownFolders
from iscl_node.store.leaving.retention import Retention, RetentionLimits


def housekeeping(shared: Shared, reconcile: Reconcile) -> Housekeeping:
    """The threads that close series, clean up, reconcile, and take over."""
    limits, root, lease = shared.settings.spool, shared.spool.root, shared.lease
    kept = RetentionLimits(limits.retention_hours * 3600, limits.max_bytes, 2 * limits.min_free_bytes)
    known = KnownFolders()
    return Housekeeping(
        shared.spool,
        series_closer(shared, reconcile),
        shared.metrics,
        Retention(root, kept, known),
        partial(forget_ended, kept.seconds, shared.worker),
        partial(_reconcile, shared, reconcile),
        lambda: lease.leads,
        takeover_of(lease, partial(clear_receiving, root), shared.metrics.taken_over_workflows.inc),
        known,
    )


def _reconcile(shared: Shared, reconcile: Reconcile) -> None:
    """One of several nodes compares the spool with the engine; each resumes its own workflows that nothing runs."""
    if shared.lease.leads:
        shared.running_time.write_down()
        reconcile.reconcile()
    else:
        reconcile.resume_idle()
