"""What the commands record in the node's audit trail, and how the trail is checked."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iscl_node.domain import ModelIdentity
from iscl_node.errors import ConfigurationError, IsclNodeError, RetryLaterError
from iscl_node.settings import Settings

if TYPE_CHECKING:
    from iscl_node.audit.messages import Messages
    from iscl_node.audit.schema import AuditMessage


def record(settings: Settings, root: Path, told: "Callable[[Messages], Sequence[AuditMessage]]") -> None:
    """Record what a command does, durably, if the node has an audit trail.

    Parameters
    ----------
    settings : Settings
        Of the node.
    root : Path
        The folder of its spool.
    told : callable
        Makes the messages; not called without a trail.

    Raises
    ------
    RetryLaterError
        It is not recorded: then it must not be done.
    """
    from iscl_node.assembly.auditing import append_all, messages_of

    plan = settings.audit_plan()
    if plan is None:
        return
    messages = messages_of(plan, settings.scp.ae_title, _model(settings), settings.digest())
    try:
        append_all(plan, root, told(messages))
    except OSError as error:
        raise RetryLaterError(f"the audit trail does not take it, so it is not done: {error.strerror}") from error


def _model(settings: Settings) -> ModelIdentity:
    from iscl_node.denoise.bundle_digest import bundle_identity

    try:
        return bundle_identity(settings.bundle.path, settings.bundle.digest)
    except ConfigurationError:  # a person must be able to work on the spool of a node that does not start
        return ModelIdentity("", "", "")


def checked(settings: Settings) -> dict[str, str]:
    """Whether the trail can be written, and the syslog server be reached."""
    from iscl_node.assembly.auditing import connected

    plan, report = settings.audit_plan(), {}
    if plan is not None and plan.file is not None:
        there = plan.file if plan.file.exists() else plan.file.absolute().parent
        report["audit file"] = f"{'' if os.access(there, os.W_OK) else 'FAILED: cannot be written: '}{plan.file}"
    if plan is not None and plan.syslog is not None:
        name, server = "audit syslog server", plan.syslog
        try:
            with connected(server):
                unsafe = "WARNING: without TLS patients' identities can be read on the network; "
                report[name] = f"{unsafe if server.tls is None else ''}{server.host}:{server.port} answers"
        except (OSError, IsclNodeError) as error:
            report[name] = f"FAILED: {server.host}:{server.port}: {error}"
    return report
