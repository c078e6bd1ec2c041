"""The sections [[peers]] of the settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field, IPvAnyNetwork, model_validator

from iscl_node.domain import Confirm
from iscl_node.settings.section import AETitle, Host, Port, Section


class PeerTlsSettings(Section):
    """How a peer, or the syslog server, is called with TLS; files that are not set are those of [scp.tls]."""

    certificate: Path | None = None
    """The node's certificate for this peer."""
    key: Path | None = None
    """The private key of this certificate."""
    ca: Path | None = None
    """The authorities whose certificates are trusted."""
    key_password_file: Path | None = None
    """Its first line is the passphrase of this key, where it has one."""
    server_name: str = ""
    """The name its certificate must have; by default its host."""
    verify_name: bool = True
    """False if its certificate has no usable name: then any certificate of the CA is accepted."""


class UserSettings(Section):
    """User name and password, for associations in both directions."""

    name: str = Field(min_length=1)
    """The user name."""
    password_file: Path
    """Its first line is the password."""


class PeerSettings(Section):
    """An application entity we know."""

    name: str = Field(min_length=1)
    """Used in rules, log and page."""
    ae_title: AETitle
    """Its AE title, calling and called."""
    host: Host = ""
    """Name or address that we send to, and from which it may call us."""
    networks: tuple[IPvAnyNetwork, ...] = ()
    """Further networks from which it may call us: 10.1.0.0/16."""
    port: Port = 104
    """The port that we send to."""
    may: tuple[Literal["store", "receive", "query", "echo"], ...]
    """store: it may send to us (and verify us by C-ECHO); receive: we may send to it
    (and it may report to us what it keeps, by storage commitment); query: we may ask it what it has of a series;
    echo: it may verify us."""
    confirm: Confirm = "auto"
    """How it confirms that it keeps what it got: by Storage Commitment (commitment), by C-FIND (query), by the first or
    else the second (auto), or by its answers to C-STORE alone (none)."""
    tls: PeerTlsSettings | None = None
    user: UserSettings | None = None

    @model_validator(mode="after")
    def _check_places(self) -> "PeerSettings":
        for service in ("receive", "query"):
            if service in self.may and not self.host:
                raise ValueError(f"peer {self.name!r} may {service!r} and has no host")
        if not self.host and not self.networks:
            raise ValueError(f"peer {self.name!r} has neither host nor networks, so it could never call us")
        return self
