"""The smaller sections of the settings: where to answer, the model, the spool, delivery, and the judge's limits."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from iscl_node import domain
from iscl_node.settings.section import A_PEBIBYTE, A_YEAR_SECONDS, TEN_YEARS_HOURS, Host, Port, Section

INSTALLED_BUNDLE = Path(__file__).parents[2] / "monai_bundle"
"""The bundle that is installed beside this package."""


class PageUserSettings(Section):
    """Somebody who may log in to the page."""

    name: str = Field(min_length=1, max_length=64)
    """Typed at the log-in, and recorded with actions."""
    password_hash: Annotated[str, StringConstraints(pattern=r"^\$argon2id\$")] = Field(repr=False)
    """As ``iscl-node password`` prints it."""


class HttpSettings(Section):
    """Where the page, /metrics, /healthz and /readyz answer."""

    host: Host = "127.0.0.1"
    """The address to listen on."""
    port: Port = 9464
    """The port, without TLS; for other machines put a reverse proxy in front."""
    hosts: tuple[Host, ...] = ()
    """Names by which browsers call the page; addresses and localhost always work."""
    open_on_loopback: bool = True
    """Whether a browser on this machine may look without a log-in, without patients' identities; set it to false
    behind a reverse proxy on this machine."""
    users: tuple[PageUserSettings, ...] = ()
    """Who may log in: from elsewhere, to see patients' identities, and to requeue, export and release."""

    @model_validator(mode="after")
    def _check_names(self) -> "HttpSettings":
        if len({user.name for user in self.users}) != len(self.users):
            raise ValueError("two users have the same name")
        return self


class BundleSettings(Section):
    """The model."""

    path: Path = INSTALLED_BUNDLE
    """The folder of the MONAI bundle."""
    digest: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the bundle folder as ``iscl-node check`` prints it; empty trusts the bundle that is installed
    with the node, and no other."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model computes; auto: on CUDA if it is there."""
    devices: tuple[Annotated[str, StringConstraints(pattern=r"^(cpu|cuda:[0-9]{1,3})$")], ...] = ()
    """"cuda:0", "cuda:1": a worker process for each, with PostgreSQL (docs/scaling.md); in place of device."""
    precision: domain.Precision = "auto"
    """Of the model's convolutions; auto: bfloat16 if the CPU computes in it and the model is as good with it."""


class SpoolSettings(Section):
    """How much the spool may hold, and for how long."""

    min_free_bytes: int = Field(default=1 << 30, ge=0, le=A_PEBIBYTE)
    """Below this much free space instances are refused with 0xA700 (out of resources)."""
    retention_hours: float = Field(default=168, ge=0, le=TEN_YEARS_HOURS)
    """How long delivered series are kept, as long as max_bytes and twice min_free_bytes allow it."""
    max_bytes: int = Field(default=0, ge=0, le=A_PEBIBYTE)
    """When the spool holds more, the oldest delivered series are deleted, nothing else; 0 for no limit."""


class DeliverySettings(Section):
    """How a destination that does not answer is tried again, and what it must confirm."""

    first_retry_seconds: float = Field(default=5, gt=0, le=A_YEAR_SECONDS)
    """The wait before a destination that failed is tried again."""
    last_retry_seconds: float = Field(default=900, gt=0, le=A_YEAR_SECONDS)
    """The wait doubles from the first to this; without give_up_hours the node never gives up."""
    give_up_hours: float = Field(default=0, ge=0, le=TEN_YEARS_HOURS)
    """A destination that does not take or confirm a batch for so long of the node's running time has it put into
    quarantine; 0 for never."""
    report_hours: float = Field(default=24, gt=0, le=TEN_YEARS_HOURS)
    """A storage commitment without a report for so long is asked for anew or, where confirm is auto, by C-FIND."""


class QualitySettings(Section):
    """What the result must hold to before anything is sent; docs/quality.md says where the defaults come from."""

    max_hu_drift: float = Field(default=4, gt=0)
    """Largest change of the mean HU of lung, fat, soft tissue or bone in one slice."""
    max_local_shift_hu: float = Field(default=6, gt=0)
    """Largest change of the mean of a region of about 1 cm² in a slice without noise ..."""
    max_local_shift_per_noise: float = Field(default=0.3, ge=0)
    """... and by how much more for each HU of noise, whose mean over such a region is not zero either."""
    max_structure_removed: float = Field(default=0.15, gt=0)
    """Largest share of the edges' contrast that may be removed with the noise."""
    max_noise_removed: float = Field(default=1.1, gt=0)
    """Noise removed in uniform tissue, at strength 1, relative to the noise that was there: more cannot be noise."""
    max_noise_left: float = Field(default=1.1, gt=0)
    """Noise after, relative to noise before."""
    max_noise_hu: float = Field(default=150, gt=0)
    """More noise than this in the series (median of its slices) is beyond what the model was made for."""
    min_noise_correlation: float = Field(default=0.06, ge=-1, le=1)
    """Noise whose neighbouring pixels are less alike comes from a sharper kernel than the model was made for."""

    def limits(self) -> domain.QualityLimits:
        """The limits as the other rooms know them."""
        return domain.QualityLimits(**self.model_dump())
