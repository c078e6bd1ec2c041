"""The settings: one TOML file and ``ISCL_NODE__...`` variables, read once, frozen, all faults reported at once."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from iscl_node import domain
from iscl_node.derived_settings import DerivedSettings, checked_suffix
from iscl_node.errors import ConfigurationError

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""Sixteen characters of the default repertoire without backslash (PS3.5 Table 6.2-1, VR AE)."""

Port = Annotated[int, Field(ge=1, le=65535)]

Strengths = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,)),
]

_LIMITS = domain.ReceptionLimits()

INSTALLED_BUNDLE = Path(__file__).parent.parent / "monai_bundle"
"""The bundle that is installed beside this package."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class TlsSettings(_Section):
    """DICOM over TLS with mutual authentication; PEM files."""

    certificate: Path
    """Ours, with the intermediate certificates if there are any."""
    key: Path
    """Of our certificate, without a passphrase."""
    ca: Path
    """Whoever has a certificate of these authorities is trusted."""


class ScpSettings(_Section):
    """The Storage SCP that the PACS sends to."""

    ae_title: AETitle = "ISCL_NODE"
    host: str = "0.0.0.0"
    port: Port = 11112
    quiet_seconds: float = Field(default=10, gt=0)
    """A series with no new instance for this long is closed and processed."""
    accept_unknown_peers: bool = False
    tls: TlsSettings | None = None
    """With it the port takes TLS only."""
    max_associations: int = Field(default=_LIMITS.associations, ge=1)
    """More are rejected, as transient: the sender tries again."""
    max_associations_per_host: int = Field(default=_LIMITS.associations_per_host, ge=1)
    max_half_open: int = Field(default=_LIMITS.half_open, ge=2)
    """Connections that are no association yet; the next one takes the place of an old one."""
    request_seconds: float = Field(default=_LIMITS.request_seconds, gt=0)
    """From the connection to its association request, TLS handshake included."""
    pdu_seconds: float = Field(default=_LIMITS.pdu_seconds, gt=0)
    """How long a peer may take for one PDU (128 KiB)."""
    idle_seconds: float = Field(default=_LIMITS.idle_seconds, gt=0)
    """How long an association may stay idle."""
    max_instance_bytes: int = Field(default=_LIMITS.instance_bytes, ge=1 << 20)
    """A larger data set is refused with 0xA700."""
    max_receiving_bytes: int = Field(default=_LIMITS.receiving_bytes, ge=1 << 20)
    """Of all data sets that are being received at a time; beyond it 0xA700. The memory is up to four times as much."""

    @model_validator(mode="after")
    def _check_limits(self) -> "ScpSettings":
        if self.max_associations_per_host > self.max_associations:
            raise ValueError("max_associations_per_host is more than max_associations")
        if self.max_instance_bytes > self.max_receiving_bytes:
            raise ValueError("max_instance_bytes is more than max_receiving_bytes")
        return self

    def known_tls(self) -> domain.Tls | None:
        """The files of TLS as the network knows them."""
        return None if self.tls is None else domain.Tls(self.tls.certificate, self.tls.key, self.tls.ca)

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


class HttpSettings(_Section):
    """Where /metrics, /healthz and /readyz answer."""

    host: str = "127.0.0.1"
    port: Port = 9464


class BundleSettings(_Section):
    """The model."""

    path: Path = INSTALLED_BUNDLE
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the bundle folder as ``iscl-node check`` prints it; empty accepts any and logs it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class SpoolSettings(_Section):
    """How much the spool may hold, and for how long."""

    min_free_bytes: int = Field(default=1 << 30, ge=0)
    """Below this much free space instances are refused with 0xA700 (out of resources)."""
    retention_hours: float = Field(default=168, ge=0)
    """Delivered series are kept this long, if max_bytes and twice min_free_bytes let them."""
    max_bytes: int = Field(default=0, ge=0)
    """When the spool holds more, the oldest delivered series go, nothing else; 0 for no limit."""


class DeliverySettings(_Section):
    """How a destination that does not answer is tried again."""

    first_retry_seconds: float = Field(default=5, gt=0)
    last_retry_seconds: float = Field(default=900, gt=0)
    """The wait doubles from the first to this; the node never gives up by itself."""


class QualitySettings(_Section):
    """What the result must hold to before anything is sent; docs/quality.md tells where the defaults come from."""

    max_hu_drift: float = Field(default=4, gt=0)
    """Largest change of the mean HU of lung, fat, soft tissue or bone in one slice."""
    max_local_shift_hu: float = Field(default=6, gt=0)
    """Largest change of the mean of a region of about 1 cm² in a slice without noise ..."""
    max_local_shift_per_noise: float = Field(default=0.3, ge=0)
    """... and by how much more for each HU of noise, whose mean over such a region is not zero either."""
    max_structure_removed: float = Field(default=0.15, gt=0)
    """Largest part of the edges' contrast that may go with the noise."""
    max_noise_removed: float = Field(default=1.1, gt=0)
    """What is removed in uniform tissue, at strength 1, to the noise that was there: more cannot be noise."""
    max_noise_left: float = Field(default=1.1, gt=0)
    """Noise after to noise before."""
    max_noise_hu: float = Field(default=150, gt=0)
    """More noise than this in the series (median of its slices) is beyond what the model was made for."""
    min_noise_correlation: float = Field(default=0.1, ge=-1, le=1)
    """Noise whose neighbouring pixels are less alike comes from a sharper kernel than the model was made for."""

    def limits(self) -> domain.QualityLimits:
        """The limits as the other rooms know them."""
        return domain.QualityLimits(**self.model_dump())


class PeerTlsSettings(_Section):
    """How a peer is called with TLS; what is not set is that of [scp.tls]."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    server_name: str = ""
    """The name its certificate must have; by default its host."""
    verify_name: bool = True
    """False where its certificate has no usable name: any certificate of the CA is taken then."""


class UserSettings(_Section):
    """User name and password, for associations in both directions."""

    name: str = Field(min_length=1)
    password_file: Path
    """Its first line is the password."""


class PeerSettings(_Section):
    """An application entity we know."""

    name: str = Field(min_length=1)
    ae_title: AETitle
    host: str = ""
    """Name or address; where we send to, and where it may call us from."""
    networks: tuple[IPvAnyNetwork, ...] = ()
    """Where it may call us from beside its host: 10.1.0.0/16."""
    port: Port = 104
    may: tuple[Literal["store", "receive", "echo"], ...]
    """store: it may send to us (and verify us by C-ECHO); receive: we may send to it; echo: it may verify us."""
    tls: PeerTlsSettings | None = None
    user: UserSettings | None = None

    @model_validator(mode="after")
    def _check_places(self) -> "PeerSettings":
        if "receive" in self.may and not self.host:
            raise ValueError(f"peer {self.name!r} may 'receive' and has no host")
        if not self.host and not self.networks:
            raise ValueError(f"peer {self.name!r} has neither host nor networks, so it could never call us")
        return self


class RuleSettings(_Section):
    """Which series are denoised, how, and where the result goes; the first rule that matches wins."""

    name: str = Field(min_length=1)
    when: dict[str, Any] = {}
    """Conditions on attributes; docs/rules.md tells the form, and ``dicom.rules`` checks it."""
    ignore: str = ""
    """A reason: the series is left alone."""
    profile: str = "abdomen"
    strength: Strengths = (1.0,)
    """One number or several; each gives a derived series of its own."""
    suffix: Annotated[str, AfterValidator(checked_suffix)] = " ISCL"
    send_to: tuple[str, ...] = ()
    transfer_syntax: domain.OutputSyntax = "explicit"
    """explicit: Explicit VR Little Endian; source: compressed as the source, where that is lossless."""
    noise_map: bool = False
    """What was removed, as Parametric Maps beside each derived series."""
    report: bool = False
    """How good it is, as a structured report beside each derived series."""

    @model_validator(mode="after")
    def _check_end(self) -> "RuleSettings":
        if self.ignore and self.model_fields_set - {"name", "when", "ignore"}:
            raise ValueError(f"rule {self.name!r} ignores, so it may only have name, when and ignore")
        if not self.ignore and not self.send_to:
            raise ValueError(f"rule {self.name!r} needs send_to with at least one peer, or ignore with a reason")
        if len(set(self.send_to)) < len(self.send_to):
            raise ValueError(f"rule {self.name!r} names a peer twice in send_to, which would get all of it twice")
        return self


class Settings(BaseSettings):
    """Everything a user may set; the tables of the file are the attributes."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix="ISCL_NODE__",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    spool_dir: Path = Path("spool")
    database_url: Annotated[str, StringConstraints(pattern=r"^(sqlite:///|postgresql://)")] = ""
    """SQLite beside the spool's folders by default, or postgresql://..."""
    worker_name: str = Field(default="node-1", min_length=1)
    """Stable: a restarted worker resumes its own series."""
    scp: ScpSettings = ScpSettings()
    http: HttpSettings = HttpSettings()
    bundle: BundleSettings = BundleSettings()
    spool: SpoolSettings = SpoolSettings()
    delivery: DeliverySettings = DeliverySettings()
    derived: DerivedSettings = DerivedSettings()
    quality: QualitySettings = QualitySettings()
    peers: tuple[PeerSettings, ...] = ()
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
        names = [peer.name for peer in self.peers]
        if len(set(names)) != len(names):
            raise ValueError("two peers have the same name")
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules have the same name")
        for peer in self.peers:
            self._tls_of(peer)
        receivers = {peer.name for peer in self.peers if "receive" in peer.may}
        for rule in self.rules:
            for name in rule.send_to:
                if name not in receivers:
                    raise ValueError(f"rule {rule.name!r} sends to {name!r}, which is no peer that may 'receive'")
        return self

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
        return tuple(self._known_peer(peer) for peer in self.peers)

    def _known_peer(self, peer: PeerSettings) -> domain.Peer:
        return domain.Peer(
            peer.name,
            peer.ae_title,
            peer.host,
            peer.port,
            may_store="store" in peer.may,
            may_receive="receive" in peer.may,
            may_echo="echo" in peer.may,
            networks=peer.networks,
            tls=self._tls_of(peer),
            user=None if peer.user is None else _known_user(peer.user),
        )

    def _tls_of(self, peer: PeerSettings) -> domain.Tls | None:
        if peer.tls is None:
            return None
        files: dict[str, Any] = {
            name: getattr(peer.tls, name) or getattr(self.scp.tls, name, None) for name in TlsSettings.model_fields
        }
        if None in files.values():
            raise ValueError(f"peer {peer.name!r}: tls needs certificate, key and ca, here or in [scp.tls]")
        return domain.Tls(**files, server_name=peer.tls.server_name, verify_name=peer.tls.verify_name)

    def tls_uses(self) -> dict[str, domain.Tls]:
        """Every use of TLS, by a name for people: ``scp`` and the names of peers."""
        ours = self.scp.known_tls()
        peers = {f"peer {peer.name}": tls for peer in self.peers if (tls := self._tls_of(peer)) is not None}
        return peers if ours is None else {"scp": ours, **peers}

    def known_rules(self) -> tuple[domain.Rule, ...]:
        """The rules as the other rooms know them."""
        return tuple(
            domain.Rule(
                r.name,
                r.when,
                r.profile,
                r.strength,
                r.suffix,
                r.send_to,
                r.ignore,
                r.transfer_syntax,
                domain.EvidenceChoice(r.noise_map, r.report),
            )
            for r in self.rules
        )


def _known_user(user: UserSettings) -> domain.UserIdentity:
    try:
        lines = user.password_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"password_file {user.password_file} of user {user.name!r} cannot be read") from error
    if not lines or not lines[0]:
        raise ConfigurationError(f"password_file {user.password_file} of user {user.name!r} has no password")
    return domain.UserIdentity(user.name, lines[0])


def load_settings(path: Path) -> Settings:
    """Read the TOML file; environment variables win over it.

    Raises
    ------
    ConfigurationError
        If the file cannot be read or a value is wrong; the message lists every fault.
    """

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
            return env_settings, TomlConfigSettingsSource(settings_cls, path)

    if not path.is_file():
        raise ConfigurationError(f"{path}: no such settings file")
    try:
        return FromFile()
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}" for fault in error.errors()]
        raise ConfigurationError("\n".join([f"{path}: {len(faults)} fault(s)", *faults])) from error
    except ValueError as error:  # what tomllib raises
        raise ConfigurationError(f"{path}: {error}") from error
