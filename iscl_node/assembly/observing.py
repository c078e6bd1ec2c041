"""What the log and the metrics say of the node itself: its model, its settings, its certificates."""

from collections.abc import Collection
from functools import partial

from iscl_node import logs
from iscl_node.assembly.opening import log_key
from iscl_node.assembly.shared import Shared
from iscl_node.domain import ModelIdentity
from iscl_node.network.tls import expiry_timestamp


def observed(shared: Shared, models: Collection[ModelIdentity]) -> logs.LogOutput:
    """Show it, and return where the log goes; every line names the model and the settings."""
    settings, metrics = shared.settings, shared.metrics
    metrics.show_worker(settings.worker_name, settings.role, lambda: shared.lease.leads)
    for model in models:
        metrics.model_info.labels(model.name, model.version, model.digest).set(1)
    for use, tls in settings.tls_uses().items():
        metrics.certificate_expiry.labels(use).set_function(partial(expiry_timestamp, tls))
    facts = {"model": "".join({model.digest for model in models}), "settings": settings.digest()}  # all of one bundle
    short = {name: digest[: logs.SHORT_DIGEST_LENGTH] for name, digest in facts.items()}
    return logs.configure(log_key(shared.spool), short, metrics.log_lines_lost.inc)
