"""Puts the audit trail together: where it is written, how it reaches the syslog server, and when it runs."""

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from iscl_node.audit.forwarding import Forwarding
from iscl_node.audit.journal import Journal
from iscl_node.audit.messages import Messages
from iscl_node.audit.refusals import RefusedCallers
from iscl_node.audit.schema import AuditMessage, AuditSource
from iscl_node.audit.syslog import SyslogConnection, syslog_line
from iscl_node.audit.trail import Append, Trail, appending_to
from iscl_node.domain import AuditPlan, ModelIdentity, SyslogServer
from iscl_node.metrics import Metrics
from iscl_node.network.refusals import Refusal
from iscl_node.network.tls import client_context

_JOURNAL: Final = "audit"
"""The folder of the journal in the spool."""
_AUTHENTICATION: Final = {
    Refusal.HANDSHAKE,
    Refusal.CALLING_AE_TITLE,
    Refusal.CALLED_AE_TITLE,
    Refusal.HOST,
    Refusal.SERVICE,
    Refusal.USER,
}
"""Refusals of who calls, not of how much: those are a Security Alert (PS3.15 A.5.3.11)."""
_LAST_SECONDS: Final = 5
"""How long a stopping node tries to bring the last messages to the syslog server."""


def messages_of(plan: AuditPlan, ae_title: str, model: ModelIdentity, settings_digest: str) -> Messages:
    """What makes the messages of this node."""
    source = AuditSource(plan.source_id, plan.site)
    return Messages(source, ae_title, socket.gethostname(), model, settings_digest)


def append_all(plan: AuditPlan, root: Path, messages: Sequence[AuditMessage]) -> None:
    """Record messages from a command beside the node, whose thread sends them.

    Parameters
    ----------
    plan : AuditPlan
        What the settings say.
    root : Path
        The folder of the spool.
    messages : sequence of AuditMessage
        In their order.

    Raises
    ------
    OSError
        One of them is not recorded everywhere.
    """
    for append in _places(plan, root).values():
        for message in messages:
            append(syslog_line(message, socket.gethostname()))


def connected(server: SyslogServer) -> SyslogConnection:
    """A connection to the syslog server.

    Raises
    ------
    OSError
        There is none.
    ConfigurationError
        A file of its TLS settings cannot be used.
    """
    tls = server.tls
    if tls is None:
        return SyslogConnection(server.host, server.port)
    return SyslogConnection(server.host, server.port, partial(client_context, tls), tls.server_name)


def _places(plan: AuditPlan, root: Path) -> dict[str, Append]:
    places: dict[str, Append] = {}
    if plan.file is not None:
        places["file"] = appending_to(plan.file, plan.max_bytes)
    if plan.syslog is not None:
        places["journal"] = Journal(root / _JOURNAL, plan.max_bytes).append
    return places


class RunningTrail:
    """The trail of a running node.

    Parameters
    ----------
    plan : AuditPlan
        What the settings say.
    root : Path
        The folder of the spool.
    messages : Messages
        Makes the messages.
    metrics : Metrics
        Counts them.
    """

    def __init__(self, plan: AuditPlan, root: Path, messages: Messages, metrics: Metrics) -> None:
        self._messages = messages
        self._callers = RefusedCallers(self._alert)
        self._trail = Trail(
            _places(plan, root),
            partial(syslog_line, host_name=socket.gethostname()),
            lambda lost: messages.recording_resumed(_now(), lost),
            metrics,
            [self._callers.tick],
        )
        self.record = self._trail.record
        self._forwarding: Forwarding | None = None
        if plan.syslog is not None:
            journal = Journal(root / _JOURNAL, plan.max_bytes)
            self._forwarding = Forwarding(journal, partial(connected, plan.syslog), metrics)

    def start(self) -> None:
        """Record that the node starts, and begin to send."""
        self.record(self._messages.application_started(_now()))
        self._trail.start()
        if self._forwarding is not None:
            self._forwarding.start()

    def stop(self) -> None:
        """Record that the node stops, and send what can be sent."""
        self.record(self._messages.application_stopped(_now()))
        self._trail.stop()
        if self._forwarding is not None:
            self._forwarding.stop(_LAST_SECONDS)

    def refused(self, reason: str, host: str, ae_title: str) -> None:
        """Record that somebody was not let in."""
        if reason in _AUTHENTICATION:
            self._callers.refused(host, ae_title, reason)

    def _alert(self, host: str, ae_title: str, reason: str, repetitions: int) -> None:
        self.record(self._messages.authentication_failed(_now(), host, ae_title, reason, repetitions))


def _now() -> datetime:
    return datetime.now(UTC)
