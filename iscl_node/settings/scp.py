"""The section [scp] of the settings: the port that the PACS sends to."""

from pathlib import Path

from pydantic import Field, model_validator

from iscl_node import domain
from iscl_node.domain.commitment import Commit
from iscl_node.settings.section import A_PEBIBYTE, A_YEAR_SECONDS, MANY, AETitle, Host, Port, Section

_LIMITS = domain.ReceptionLimits()


class TlsSettings(Section):
    """DICOM over TLS with mutual authentication; PEM files."""

    certificate: Path
    """The node's certificate, with the intermediate certificates if there are any."""
    key: Path
    """The private key of the certificate."""
    ca: Path
    """A caller with a certificate of these authorities is trusted."""
    key_password_file: Path | None = None
    """Its first line is the key's passphrase, where it has one."""


class ScpSettings(Section):
    """The Storage SCP that the PACS sends to."""

    ae_title: AETitle = "ISCL_NODE"
    """The node's AE title, called and calling."""
    host: Host = "0.0.0.0"
    """The address to listen on; 0.0.0.0: all."""
    port: Port = 11112
    """The port that the PACS sends to."""
    quiet_seconds: float = Field(default=10, gt=0, le=A_YEAR_SECONDS)
    """A series with no new instance for this long is closed and processed."""
    accept_unknown_peers: bool = False
    """Whether callers that are no peer may send."""
    commit: Commit = "never"
    """When the node commits to keep an instance, where a sender requests Storage Commitment and may then delete it:
    archived (a destination says that it keeps that very instance), received (it is in the spool, which keeps it for
    [spool] retention_hours only) or never."""
    tls: TlsSettings | None = None
    """With it the port takes TLS only."""
    max_associations: int = Field(default=_LIMITS.associations, ge=1, le=MANY)
    """Further ones are rejected as transient: the sender tries again."""
    max_associations_per_host: int = Field(default=_LIMITS.associations_per_host, ge=1, le=MANY)
    """The same for the associations of one host."""
    max_half_open: int = Field(default=_LIMITS.half_open, ge=2, le=MANY)
    """Connections that are no association yet; the next one takes the place of an old one."""
    request_seconds: float = Field(default=_LIMITS.request_seconds, gt=0, le=A_YEAR_SECONDS)
    """From the connection to its association request, TLS handshake included."""
    pdu_seconds: float = Field(default=_LIMITS.pdu_seconds, gt=0, le=A_YEAR_SECONDS)
    """How long a peer may take for one PDU (128 KiB)."""
    idle_seconds: float = Field(default=_LIMITS.idle_seconds, gt=0, le=A_YEAR_SECONDS)
    """How long an association may stay idle."""
    max_instance_bytes: int = Field(default=_LIMITS.instance_bytes, ge=1 << 20, le=A_PEBIBYTE)
    """A larger data set is refused with 0xA700 (out of resources)."""
    max_receiving_bytes: int = Field(default=_LIMITS.receiving_bytes, ge=1 << 20, le=A_PEBIBYTE)
    """All data sets that are being received together; beyond it 0xA700. Memory use is up to four times as much."""

    @model_validator(mode="after")
    def _check_limits(self) -> "ScpSettings":
        if self.max_associations_per_host > self.max_associations:
            raise ValueError("max_associations_per_host is more than max_associations")
        if self.max_instance_bytes > self.max_receiving_bytes:
            raise ValueError("max_instance_bytes is more than max_receiving_bytes")
        return self

    def known_tls(self) -> domain.Tls | None:
        """The files of TLS as the network knows them."""
        return None if self.tls is None else domain.Tls(**dict(self.tls))

    def limits(self) -> domain.ReceptionLimits:
        """The limits as the network knows them."""
        return domain.ReceptionLimits(
            associations=self.max_associations,
            associations_per_host=self.max_associations_per_host,
            half_open=self.max_half_open,
            request_seconds=self.request_seconds,
            pdu_seconds=self.pdu_seconds,
            idle_seconds=self.idle_seconds,
            instance_bytes=self.max_instance_bytes,
            receiving_bytes=self.max_receiving_bytes,
        )
