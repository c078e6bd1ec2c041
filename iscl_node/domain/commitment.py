"""A sender's request for storage commitment."""

from dataclasses import dataclass
from typing import Literal

from iscl_node.domain import InstanceReference

Commit = Literal["never", "archived", "received"]
"""When the node commits to an instance towards its sender."""


@dataclass(frozen=True)
class CommitmentRequest:
    """What a sender asks to be kept, and since when it waits, in seconds since the epoch (PS3.4 J.3.2)."""

    ae_title: str
    transaction_uid: str
    instances: tuple[InstanceReference, ...]
    since: float
