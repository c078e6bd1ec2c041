"""The nouns of the node: frozen values, standard library only, known to every room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal

from iscl_node.domain.hours import Hours, Priority
from iscl_node.domain.private_element import SCAN_FACTS as SCAN_FACTS
from iscl_node.domain.private_element import PrivateElement as PrivateElement
from iscl_node.domain.strength import ChosenStrength, StrengthChoice
from iscl_node.domain.web_service import WebService as WebService

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOP Class UID of CT Image Storage (PS3.4 B.5)."""
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.2"
MULTIFRAME_CT_STORAGE = (ENHANCED_CT_IMAGE_STORAGE, LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE)
"""SOP Classes of CT with many frames in one instance (PS3.3 A.38 and A.70)."""
CT_STORAGE = (CT_IMAGE_STORAGE, *MULTIFRAME_CT_STORAGE)
"""SOP Classes that are processed."""

IMPLEMENTATION_CLASS_UID: Final = "2.25.126184408308954464516420230489981626992"
"""Names this implementation in every file and association (PS3.7 D.3.3.2); drawn once, never changed."""

OutputSyntax = Literal["explicit", "source"]
"""How derived instances are encoded: in Explicit VR Little Endian, or losslessly compressed as their source."""


Unsuited = Literal["warn", "ignore", "quarantine"]
"""What happens to a series that the model was not made for; a warning is in everything that is derived of it."""

Precision = Literal["auto", "float32", "bfloat16"]
"""In what the model's convolutions compute."""


def implementation_version_name(node_version: str) -> str:
    """Return the Implementation Version Name, at most 16 characters (PS3.7 D.3.3.2.3)."""
    return f"ISCL_NODE_{node_version}"[:16]


@dataclass(frozen=True)
class InstanceHeader:
    """What the node must know of an instance to store it; read before the sender gets its answer."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class InstanceIdentity:
    """Whose instance it is, and who sent it: for audit messages only, which name patients by purpose."""

    patient_id: str = field(repr=False)
    study_instance_uid: str = field(repr=False)
    sop_class_uid: str
    source_ae_title: str = ""


@dataclass(frozen=True)
class ReceivedInstance:
    """One C-STORE request as it came: the encoded data set inside a DICOM File Format stream (PS3.10)."""

    part10: bytes = field(repr=False)
    calling_ae_title: str
    calling_address: str


@dataclass(frozen=True)
class Tls:
    """Who we are, and whom we trust, in TLS with mutual authentication (PS3.15 B.12); PEM files."""

    certificate: Path
    key: Path
    ca: Path
    server_name: str = ""
    """The name a server's certificate must have; empty for the host that is called."""
    verify_name: bool = True
    """False where the certificate has no usable name: any of the CA's is taken then."""
    key_password_file: Path | None = None
    """Its first line is the passphrase of the key."""


@dataclass(frozen=True)
class SyslogServer:
    """Who collects audit messages; ``tls`` is None for no TLS."""

    host: str
    port: int
    tls: Tls | None


@dataclass(frozen=True)
class AuditPlan:
    """Where audit messages go: to a file, a syslog server, or both; ``source_id`` and ``site`` name the node in them.

    ``max_bytes`` bounds the file, and what waits for the server.
    """

    source_id: str
    site: str
    file: Path | None
    max_bytes: int
    syslog: SyslogServer | None


@dataclass(frozen=True)
class UserIdentity:
    """User name and password of an association (PS3.7 D.3.3.7)."""

    name: str
    password: str = field(repr=False)


Confirm = Literal["auto", "commitment", "query", "none"]
"""How a destination confirms that it keeps what was sent; auto: by Storage Commitment (PS3.4 J) or else by a query."""


@dataclass(frozen=True)
class Peer:
    """An application entity we know, and what it may do."""

    name: str
    ae_title: str
    host: str
    port: int
    may_store: bool = True
    may_receive: bool = True
    may_echo: bool = False
    """Without ``may_store``: it may verify us by C-ECHO, and nothing else."""
    may_query: bool = False
    """It may be asked what it has."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where it may call us from, beside its host."""
    tls: Tls | None = None
    """How it is called; None for no TLS."""
    user: UserIdentity | None = None
    """What it must present to us, and we to it."""
    confirm: Confirm = "auto"
    web: WebService | None = None
    """Where it is reached by DICOMweb, with no DIMSE; None for DIMSE."""


@dataclass(frozen=True)
class ReceptionLimits:
    """What the Storage SCP bears at most; each value is the default of a setting."""

    associations: int = 64
    associations_per_host: int = 16
    half_open: int = 32
    """Connections without an association, in total; a new one takes the place of an old one."""
    request_seconds: float = 15.0
    """From the connection to the end of its association request, TLS handshake included."""
    pdu_seconds: float = 60.0
    """How long a peer may take for one PDU."""
    idle_seconds: float = 120.0
    """How long an association may stay idle: a scanner that reconstructs keeps one open between slices."""
    instance_bytes: int = 1 << 30
    """Of one data set; an Enhanced CT of 1000 frames of 512 x 512 has half of that."""
    receiving_bytes: int = 2 << 30
    """Of all data sets that are being received; their memory is up to four times as much."""


@dataclass(frozen=True)
class InstanceReference:
    """Names an instance in another's data set (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class CommitmentReport:
    """What a peer says about the instances of a storage commitment request (PS3.4 J.3.3).

    ``committed`` holds the SOP Instance UIDs that it keeps, ``failed`` the Failure Reason (0008,1197) of those it does
    not. Of an instance in neither the report says nothing.
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


@dataclass(frozen=True)
class StoreAnswer:
    """What a destination answered to a C-STORE request (None: nothing), and whether it has the instance by that."""

    instance: InstanceReference
    status: int | None
    is_stored: bool


@dataclass(frozen=True, order=True)
class Batch:
    """The instances of one series that were closed together; the unit of work.

    A slice that arrives after its series was closed makes a further batch of the same series.
    ``key`` is the time of closing (UTC), so batches of a series sort by age.
    """

    series_instance_uid: str
    key: str

    @property
    def workflow_id(self) -> str:
        """The durable workflow's identity: one per batch, over all restarts."""
        return f"{self.series_instance_uid}/{self.key}"


@dataclass(frozen=True)
class EvidenceChoice:
    """Which objects go beside each derived series; ``noise_map`` as Parametric Maps, or as plain CT."""

    noise_map: bool | Literal["ct"] = False
    report: bool = False


NO_EVIDENCE: Final = EvidenceChoice()

AtTimeout = Literal["process", "wait", "quarantine"]
"""What becomes of a series of which something is still missing at the time-out."""


@dataclass(frozen=True)
class CompletenessPolicy:
    """When a quiet series is complete, and what happens if it never is.

    ``ask`` names the peer that is asked which instances it has of the series, ``fetch`` whether what is missing here is
    fetched from there. ``timeout_seconds`` counts from the last arrival.
    """

    ask: str = ""
    fetch: bool = False
    timeout_seconds: float = 300.0
    at_timeout: AtTimeout = "process"


@dataclass(frozen=True)
class Rule:
    """Which series are denoised, how, and where the derived series go.

    ``when`` is a table of conditions (``dicom.selecting.conditions``). A rule with ``ignore``, the reason, leaves its
    series alone instead.
    """

    name: str
    when: Mapping[str, Any]
    profile: str
    strengths: tuple[StrengthChoice, ...]
    suffix: str
    send_to: tuple[str, ...]
    ignore: str = ""
    transfer_syntax: OutputSyntax = "explicit"
    evidence: EvidenceChoice = NO_EVIDENCE
    completeness: CompletenessPolicy = CompletenessPolicy()
    unsuited: Unsuited = "warn"
    priority: Priority = "normal"
    hours: Hours | None = None


@dataclass(frozen=True)
class ModelIdentity:
    """Names the exact model in every derived object.

    ``digest`` is the SHA-256 of what decides on the bundle's result (``denoise.bundle_digest``), in hexadecimal.
    """

    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class Site:
    """What the site decides about every derived instance; none of it changes pixels or UIDs.

    ``content_qualification`` is a value of Content Qualification (0018,9004), RESEARCH or PRODUCT; ``time_zone`` is a
    name of the IANA's database, or empty for that of the process.
    """

    ae_title: str = ""
    institution_name: str = ""
    department_name: str = ""
    station_name: str = ""
    content_qualification: str = "RESEARCH"
    keep_private: tuple[PrivateElement, ...] = ()
    time_zone: str = ""


FIRST_UID_SCHEME: Final = "iscl-node/2"
UID_SCHEME: Final = "iscl-node/3"
"""How the UIDs of derived objects are computed. Raise the number when the same source and settings begin to give other
pixels, for example by other rounding; a series that was started under an earlier one keeps it."""


@dataclass(frozen=True)
class Derivation:
    """Everything that, beside the source, decides the pixels and the identity of a derived series, and the site.

    ``target_noise_hu`` and what was measured as in :class:`ChosenStrength`; ``uid_scheme``: how UIDs are computed.
    """

    model: ModelIdentity
    profile: str
    strength: float
    suffix: str
    node_version: str
    site: Site = Site()
    target_noise_hu: float | None = None
    source_noise_hu: float | None = None
    body_mm: float | None = None
    uid_scheme: str = UID_SCHEME
    cautions: tuple[str, ...] = ()
    slice_mm: float | None = None

    @property
    def chosen_strength(self) -> ChosenStrength:
        """The strength, and how it was chosen."""
        known = self.target_noise_hu, self.source_noise_hu, self.body_mm, self.cautions, self.slice_mm
        return ChosenStrength(self.strength, *known)


class Arrival(StrEnum):
    """What an instance that was taken is to its series; the values are labels of a metric."""

    NEW = "new"
    REPEATED = "repeated"
    """The same data set was there: nothing to do."""
    CONFLICT = "conflict"
    """Another data set was there under the same SOP Instance UID: both are kept, this one in quarantine."""


@dataclass(frozen=True)
class QualityLimits:
    """What the judge lets pass; ``settings.QualitySettings`` has the defaults, docs/quality.md where they come from.

    ``max_hu_drift`` and ``max_local_shift_hu`` are in HU, ``max_noise_hu`` too; all others are ratios.
    """

    max_hu_drift: float
    max_local_shift_hu: float
    max_local_shift_per_noise: float
    max_structure_removed: float
    max_noise_removed: float
    max_noise_left: float
    max_noise_hu: float
    min_noise_correlation: float


@dataclass(frozen=True)
class IncompleteSeries:
    """An open series that is quiet and waits for what is missing.

    ``missing`` says what, in words. ``last_arrival`` is in seconds since the epoch. ``is_held`` is true after a
    time-out whose policy is to wait: nothing but a late slice or a person ends that.
    """

    series_instance_uid: str
    missing: str
    last_arrival: float
    is_held: bool


class SeriesState(StrEnum):
    """Where the instances of a series are; every received instance is in exactly one of these."""

    OPEN = "open"
    """Instances still arrive."""
    CLOSED = "closed"
    """Waiting for, or in, the workflow."""
    SENT = "sent"
    """Every destination stored the derived series, and not all have confirmed that they keep it."""
    DONE = "done"
    """Every destination has the derived series and confirmed it; kept until the retention time ends."""
    IGNORED = "ignored"
    """Not to be processed, by a rule or because the node made it; the folder holds the reason, kept as long as DONE."""
    QUARANTINE = "quarantine"
    """A person decides; the folder holds the reason."""


@dataclass(frozen=True)
class SetAsideBatch:
    """A batch that is not processed, in quarantine or ignored, why, and the judge's picture if there is one.

    ``since`` is when it was set aside, in seconds since the epoch; ``files`` and ``size_bytes`` are all that is there.
    """

    batch: Batch
    reason: str
    folder: Path
    picture: Path | None = None
    since: float = 0.0
    files: int = 0
    size_bytes: int = 0
