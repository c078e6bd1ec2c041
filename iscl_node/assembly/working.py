"""The steps of a batch, and the workflows that take them and that the spool asks for."""

from collections.abc import Mapping
from typing import Final

from iscl_node import __version__
from iscl_node.assembly.shared import Shared
from iscl_node.denoise.bundle_denoiser import BundleDenoiser
from iscl_node.pipeline.audit.what_happened import Audit
from iscl_node.pipeline.delivery.ask import Asking
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.delivery.send import Sending
from iscl_node.pipeline.engine.idle import IdleWorkflows
from iscl_node.pipeline.steps.series import SeriesSteps
from iscl_node.pipeline.workflows.batch import SeriesWorkflow
from iscl_node.pipeline.workflows.reconcile import Reconcile
from iscl_node.pipeline.workflows.trying import Trying
from iscl_node.retry import Backoff
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.waits import Waits

_MINUTE: Final = 60
_LONGEST_DAY: Final = 25 * 3600
"""When summer time ends; the hours of a rule are waited for no longer."""


def series_steps(shared: Shared, denoisers: Mapping[str, BundleDenoiser]) -> SeriesSteps:
    """From a closed series to its derived instances."""
    settings = shared.settings
    return SeriesSteps(
        shared.spool,
        shared.rules,
        denoisers,
        settings.quality.limits(),
        __version__,
        settings.derived.site(settings.scp.ae_title),
        shared.running_time.seconds,
        shared.metrics,
        shared.headers,
    )


def reconciled_workflows(shared: Shared, steps: SeriesSteps, audit: Audit) -> Reconcile:
    """The workflows, and what keeps them and the spool in agreement."""
    delivery, calling = shared.settings.delivery, shared.calling
    deliveries = Deliveries(shared.spool.root)
    destinations = Destinations(shared.spool, deliveries, shared.peers)
    deadline = Deadline(deliveries, shared.running_time.seconds, delivery.give_up_hours * 3600)
    backoff = Backoff(delivery.first_retry_seconds, delivery.last_retry_seconds)
    report_seconds = delivery.report_hours * 3600
    sending = Sending(destinations, calling.send, deadline)
    asking = Asking(destinations, calling.commit, calling.find, deadline, report_seconds, shared.headers)
    concluding = Concluding(destinations, deadline, backoff, report_seconds, shared.metrics)
    trying = Trying(shared.shutdown, shared.metrics, backoff, Waits(shared.spool.root))
    workflow = SeriesWorkflow(steps, sending, asking, concluding, trying, shared.metrics, audit)
    shared.reports.conclude_late = workflow.conclude_late
    longest_delay_seconds = max(report_seconds, delivery.last_retry_seconds, _LONGEST_DAY) + _MINUTE
    idle = IdleWorkflows(shared.worker)
    rest = idle, shared.metrics, longest_delay_seconds, lambda: shared.lease.leads
    return Reconcile(destinations, workflow, concluding, *rest)
