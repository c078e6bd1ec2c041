"""The settings: one TOML file and ``ISCL_NODE__...`` variables, read once, frozen, all faults reported at once."""

import os
import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from iscl_node import domain
from iscl_node.errors import ConfigurationError
from iscl_node.settings.anchors import anchored
from iscl_node.settings.audit import AuditSettings
from iscl_node.settings.derived import DerivedSettings
from iscl_node.settings.dicomweb import DicomWebSettings
from iscl_node.settings.faults import PREFIX, told, unknown_variables
from iscl_node.settings.node import (
    INSTALLED_BUNDLE,
    BundleSettings,
    DeliverySettings,
    HttpSettings,
    QualitySettings,
    SpoolSettings,
)
from iscl_node.settings.peers import PeerSettings, PeerTlsSettings, UserSettings
from iscl_node.settings.rules import RuleSettings
from iscl_node.settings.scp import ScpSettings

__all__ = ["INSTALLED_BUNDLE", "QualitySettings", "RuleSettings", "Settings", "load_settings", "spool_memory"]


def _checked_database_url(url: str) -> str:
    """Return the URL as the engine wants it; providers and other programs write the scheme in other ways."""
    postgresql = re.fullmatch(r"postgres(?:ql)?(?:\+psycopg[23]?)?(://.*)", url, re.DOTALL)
    if postgresql is not None:
        return f"postgresql{postgresql[1]}"
    if not url.startswith("sqlite:///"):
        raise ValueError("it starts with sqlite:/// or postgresql://")  # what it holds may be a password
    return url


DatabaseUrl = Annotated[str, AfterValidator(_checked_database_url)]
Role = Literal["all", "receive", "work"]


class Settings(BaseSettings):
    """Everything a user may set; the tables of the file are the attributes."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
    )

    spool_dir: Path = Path("spool")
    """The folder of the spool, on a local disk."""
    database_url: DatabaseUrl = ""
    """The workflow database: empty for SQLite in the spool, or postgresql://... (docs/spool.md)."""
    worker_name: str = Field(default="node-1", min_length=1)
    """The name of this worker. Keep it: a restarted worker resumes its own series."""
    role: Role = "all"
    """receive: receives series; work: denoises and sends what others received; all: both (docs/scaling.md)."""
    scp: ScpSettings = ScpSettings()
    http: HttpSettings = HttpSettings()
    bundle: BundleSettings = BundleSettings()
    spool: SpoolSettings = SpoolSettings()
    delivery: DeliverySettings = DeliverySettings()
    derived: DerivedSettings = DerivedSettings()
    quality: QualitySettings = QualitySettings()
    audit: AuditSettings = AuditSettings()
    peers: tuple[PeerSettings, ...] = ()
    dicomweb: tuple[DicomWebSettings, ...] = ()
    rules: tuple[RuleSettings, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _place_database(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The database lies in the spool unless it is set."""
        if not values.get("database_url"):
            values = values | {"database_url": f"sqlite:///{values.get('spool_dir', 'spool')}/workflows.sqlite"}
        return values

    @model_validator(mode="after")
    def _check_references(self) -> "Settings":
        if self.role != "all" and not self.has_postgresql:
            raise ValueError(f"role {self.role!r} needs PostgreSQL, on which several nodes work: see database_url")
        if self.bundle.devices and not self.has_postgresql:
            raise ValueError("[bundle] devices need PostgreSQL, on which several processes work: see database_url")
        names = [peer.name for peer in self._destinations]
        if len(set(names)) != len(names):
            raise ValueError("two peers have the same name")
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules have the same name")
        for peer in self._destinations:
            self._tls_of(peer)
        self.syslog_tls()
        for rule in self.rules:
            self._check_peers_of(rule)
        return self

    def _check_peers_of(self, rule: RuleSettings) -> None:
        uses = [(name, "sends to", "receive") for name in rule.send_to]
        if rule.completeness.ask:
            uses.append((rule.completeness.ask, "asks", "query"))
        if rule.completeness.fetch:
            uses.append((rule.completeness.ask, "fetches from", "store"))
        for name, use, service in uses:
            if not any(peer.name == name and service in peer.may for peer in self._destinations):
                raise ValueError(f"rule {rule.name!r} {use} {name!r}, which is no peer that may {service!r}")

    @property
    def _destinations(self) -> tuple[PeerSettings | DicomWebSettings, ...]:
        return self.peers + self.dicomweb

    @property
    def has_postgresql(self) -> bool:
        """Whether the workflow database can be shared by several nodes."""
        return self.database_url.startswith("postgresql:")

    def digest(self) -> str:
        """Names these settings; the database's URL, which may hold a password, is left out."""
        return sha256(self.model_dump_json(exclude={"database_url"}).encode()).hexdigest()

    def known_peers(self) -> tuple[domain.Peer, ...]:
        """The peers as the other rooms know them.

        Raises
        ------
        ConfigurationError
            A password cannot be read.
        """
        web = [each.peer(self._tls_of(each), _known_user(each.user)) for each in self.dicomweb]
        return (*map(self._known_peer, self.peers), *web)

    def _known_peer(self, peer: PeerSettings) -> domain.Peer:
        return domain.Peer(
            peer.name,
            peer.ae_title,
            peer.host,
            peer.port,
            may_store="store" in peer.may,
            may_receive="receive" in peer.may,
            may_echo="echo" in peer.may,
            may_query="query" in peer.may,
            networks=peer.networks,
            tls=self._tls_of(peer),
            user=_known_user(peer.user),
            confirm=peer.confirm,
        )

    def _tls_of(self, peer: PeerSettings | DicomWebSettings) -> domain.Tls | None:
        return None if peer.tls is None else self._known_tls(peer.tls, f"peer {peer.name!r}")

    def syslog_tls(self) -> domain.Tls | None:
        """How the syslog server of the audit trail is called; None for no TLS, or no server."""
        server = self.audit.syslog
        return None if server is None or not server.tls else self._known_tls(server, "[audit.syslog]")

    def audit_plan(self) -> domain.AuditPlan | None:
        """The audit trail as the other rooms know it; None if there is none."""
        audit = self.audit
        if not audit.is_on:
            return None
        server = audit.syslog
        syslog = None if server is None else domain.SyslogServer(server.host, server.port, self.syslog_tls())
        source_id = audit.source_id or self.worker_name
        return domain.AuditPlan(source_id, audit.site, audit.file, audit.max_bytes, syslog)

    def _known_tls(self, own: PeerTlsSettings, whose: str) -> domain.Tls:
        files: dict[str, Any] = {
            name: getattr(own, name) or getattr(self.scp.tls, name, None) for name in ("certificate", "key", "ca")
        }
        if None in files.values():
            raise ValueError(f"{whose}: tls needs certificate, key and ca, here or in [scp.tls]")
        of_key = own if own.key is not None else self.scp.tls
        files["key_password_file"] = getattr(of_key, "key_password_file", None)
        return domain.Tls(**files, server_name=own.server_name, verify_name=own.verify_name)

    def tls_uses(self) -> dict[str, domain.Tls]:
        """Every use of TLS, by a name for people: ``scp``, the names of peers, ``audit.syslog``."""
        peers = {f"peer {peer.name}": self._tls_of(peer) for peer in self._destinations}
        uses = {"scp": self.scp.known_tls(), **peers, "audit.syslog": self.syslog_tls()}
        return {name: tls for name, tls in uses.items() if tls is not None}

    def known_rules(self) -> tuple[domain.Rule, ...]:
        """The rules as the other rooms know them."""
        return tuple(
            domain.Rule(
                r.name,
                r.when,
                r.profile,
                r.strengths(),
                r.suffix,
                r.send_to,
                r.ignore,
                r.transfer_syntax,
                domain.EvidenceChoice(r.noise_map, r.report),
                r.completeness.policy(),
                r.unsuited,
                r.priority,
                r.known_hours(),
            )
            for r in self.rules
        )


def spool_memory(path: Path) -> Path:
    """Where the ID of the spool of a settings file is kept: in $STATE_DIRECTORY (systemd.exec(5)), or beside it."""
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return (Path(state) if state else path.parent) / f"{path.stem}.spool"


def _known_user(user: UserSettings | None) -> domain.UserIdentity | None:
    if user is None:
        return None
    try:
        lines = user.password_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"password_file {user.password_file} of user {user.name!r} cannot be read") from error
    if not lines or not lines[0]:
        raise ConfigurationError(f"password_file {user.password_file} of user {user.name!r} has no password")
    return domain.UserIdentity(user.name, lines[0])


def load_settings(path: Path, given: Mapping[str, Any] | None = None) -> Settings:
    """Read the TOML file; environment variables win over it. Relative paths in both count from the file's folder.

    Parameters
    ----------
    path : Path
        The file.
    given : mapping, optional
        Wins over both.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or a value is wrong; the message lists every fault.
    """
    text = _text_of(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            first = InitSettingsSource(settings_cls, dict(given or {}))
            return first, env_settings, InitSettingsSource(settings_cls, content)

    lines = unknown_variables(Settings)
    try:
        settings = FromFile()
    except ValidationError as error:
        lines += told(error, Settings, text)
    except SettingsError as error:
        lines.append(f"the environment: {error}")
    if lines:
        raise ConfigurationError("\n".join([f"{path}: {len(lines)} fault(s)", *(f"  {line}" for line in lines)]))
    return anchored(settings, path.absolute().parent)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows begin a file with a byte order mark
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such settings file") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: save it as that") from error
