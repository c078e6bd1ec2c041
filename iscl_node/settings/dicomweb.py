"""The sections [[dicomweb]] of the settings."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from iscl_node.domain import Peer, Tls, UserIdentity, WebService
from iscl_node.settings.peers import PeerTlsSettings, UserSettings
from iscl_node.settings.section import Section


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it starts with https:// or http:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("it has no user, no ? and no #; user and password are those of the table user")
    _ = parts.port  # raises what says that it is none
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_checked_url)]


class DicomWebSettings(Section):
    """A destination that takes instances by STOW-RS; rules name it as they do a peer."""

    name: str = Field(min_length=1)
    """For rules, log and page."""
    url: Url
    """Of the service: /studies behind it is where instances are stored."""
    may: tuple[Literal["receive", "query"], ...] = ("receive",)
    """receive: we may send to it; query: we may ask it what it has of a series."""
    confirm: Literal["query", "none"] = "query"
    """How it confirms that it keeps what we sent: by QIDO-RS (query), or by its answers to STOW-RS alone (none)."""
    token_file: Path | None = None
    """Its first line is the bearer token; read anew for each connection, so that it can be renewed."""
    user: UserSettings | None = None
    """Name and password (HTTP Basic)."""
    tls: PeerTlsSettings | None = None
    """Our certificate, where it asks for one; without this table the system's authorities are trusted."""

    @model_validator(mode="after")
    def _check_access(self) -> "DicomWebSettings":
        if self.user is not None and self.token_file is not None:
            raise ValueError(f"dicomweb {self.name!r} has a user and a token_file: only one of them can be sent")
        if self.tls is not None and not self.url.startswith("https:"):
            raise ValueError(f"dicomweb {self.name!r} has tls, and its url does not start with https:")
        return self

    def peer(self, tls: Tls | None, user: UserIdentity | None) -> Peer:
        """The destination as the other rooms know it."""
        parts = urlsplit(self.url)
        return Peer(
            self.name,
            "",
            parts.hostname or "",
            parts.port or (443 if parts.scheme == "https" else 80),
            may_store=False,
            may_receive="receive" in self.may,
            may_query="query" in self.may,
            tls=tls,
            user=user,
            confirm=self.confirm,
            web=WebService(self.url, self.token_file),
        )
