"""The section [audit] of the settings."""

from pathlib import Path

from pydantic import Field

from iscl_node.settings.peers import PeerTlsSettings
from iscl_node.settings.section import A_PEBIBYTE, Host, Port, Section


class SyslogSettings(PeerTlsSettings):
    """The syslog server that collects audit messages (PS3.15 A.6)."""

    host: Host = Field(min_length=1)
    """Of the audit record repository."""
    port: Port = 6514
    """Of syslog over TLS (RFC 5425)."""
    tls: bool = True
    """False sends them, and the identities of patients in them, as they are."""


class AuditSettings(Section):
    """The audit trail (PS3.15 A.5); there is none unless it has a file or a syslog server."""

    file: Path | None = None
    """Messages are appended to it, one a line; on a local disk. Others may move it away."""
    max_bytes: int = Field(default=1 << 30, ge=4 << 20, le=A_PEBIBYTE)
    """Of the file; and of the messages that wait for the syslog server. What would exceed it is not recorded."""
    source_id: str = ""
    """Audit Source ID, what this node is called in the trail; by default worker_name."""
    site: str = ""
    """Audit Enterprise Site ID; left out when empty."""
    syslog: SyslogSettings | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is an audit trail."""
        return self.file is not None or self.syslog is not None
