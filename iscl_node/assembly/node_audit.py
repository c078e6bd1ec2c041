"""What the node records for the audit, if its settings have a trail."""

from collections.abc import Callable, Collection, Sequence

from iscl_node.assembly.auditing import RunningTrail, append_all, messages_of
from iscl_node.assembly.shared import Shared
from iscl_node.audit.messages import Messages
from iscl_node.audit.schema import AuditMessage
from iscl_node.domain import ModelIdentity
from iscl_node.pipeline.audit.what_happened import NO_AUDIT, Audit, AuditTrail


class NodeAudit:
    """The audit of a node, which may be none.

    Parameters
    ----------
    shared : Shared
        With the settings, which say whether there is a trail.
    models : collection of ModelIdentity
        All of one bundle; none of a node that does not work.
    """

    def __init__(self, shared: Shared, models: Collection[ModelIdentity]) -> None:
        settings = shared.settings
        self._plan = settings.audit_plan()
        self._root = shared.spool.root
        self._trail: RunningTrail | None = None
        self.of_series: Audit = NO_AUDIT
        if self._plan is None:
            return
        model = next(iter(models), ModelIdentity("", "", ""))
        self._messages = messages_of(self._plan, settings.scp.ae_title, model, settings.digest())
        self._trail = RunningTrail(self._plan, self._root, self._messages, shared.metrics)
        peers, lost = shared.peers.values(), shared.metrics.audit_lost.inc
        self.of_series = AuditTrail(shared.spool, self._messages, self._trail.record, peers, lost, shared.headers)

    def start(self) -> None:
        """Record that the node starts, and begin to send."""
        if self._trail is not None:
            self._trail.start()

    def stop(self) -> None:
        """Record that the node stops, and send what can be sent."""
        if self._trail is not None:
            self._trail.stop()

    def refused(self, reason: str, host: str, ae_title: str) -> None:
        """Record that somebody was not let in."""
        if self._trail is not None:
            self._trail.refused(reason, host, ae_title)

    def record_decision(self, told: Callable[[Messages], Sequence[AuditMessage]]) -> None:
        """Record durably what a person decided on the page.

        Raises
        ------
        OSError
            It is not recorded everywhere.
        """
        if self._plan is not None:
            append_all(self._plan, self._root, told(self._messages))
