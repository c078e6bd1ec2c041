"""Where everything lies in the spool; names only, but for the root, which is resolved.

::

    spool.json                                    which spool this is
    node.lock                                     held by the node that runs on it
    receiving/<worker>/<random>.part              being written, not acknowledged
    receiving/<random>.purged                     a batch that is being deleted
    open/<series>/<sop>.dcm                       instances still arrive
    closed/<series>/<key>/<sop>.dcm               waiting for, or in, the workflow
    sent/<series>/<key>/<sop>.dcm                 stored by every destination, not confirmed by all
    done/<series>/<key>/<sop>.dcm                 delivered, kept until the retention time ends
    ignored/<series>/<key>/<sop>.dcm              not to be processed, kept as long, with reason.txt
    quarantine/<series>/<key>/<sop>.dcm           a person decides, with reason.txt (and judge.*)
    outbox/<series>/<key>/<derived series>/<derived sop>.dcm    derived instances, as long as the batch is kept
    commitment_requests/                          what senders ask to be kept, until it is reported on
    running_time.json                             how long the node has run, over all its starts
    releases.jsonl                                who released what from quarantine
    audit/                                        audit messages on their way to the syslog server
    exams/                                        noise and dose of each series, for ever
    fetched.jsonl                                 what iscl-node fetch has fetched
    log.key                                       hashes UIDs in the log
    incomplete.json                               which open series wait for what is missing

A batch's folder also holds what its destinations answered (`iscl_node/store/records/deliveries.py`).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from iscl_node.domain import Batch, SeriesState

REASON_FILE = "reason.txt"
PICTURE_FILE = "judge.png"
INCOMPLETE_FILE = "incomplete.txt"
"""In a batch that was closed although something was missing, and is to go to quarantine for that: what is missing."""
CONFLICT_PREFIX = "conflict-"
CONFLICT_FILE = "conflict.txt"
"""In an open series, and its batch: another data set came under one of its SOP Instance UIDs before it was closed."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_KEY_FORMAT = "%Y%m%dT%H%M%S.%fZ"
_KEY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
_NAME_LENGTH = 40
_DIGEST_LENGTH = 8


def is_uid(text: str) -> bool:
    """Whether ``text`` has the form of a UID (PS3.5 9.1) and so may become part of a path.

    Leading zeros of a component, which the standard forbids, are let through: real devices send them, and they do
    no harm in a path.
    """
    return len(text) <= _UID_LENGTH and _UID.fullmatch(text) is not None


def file_name(sop_uid: str) -> str:
    """The name of an instance's file."""
    return f"{sop_uid}.dcm"


def key_of(closed: datetime) -> str:
    """The key of a batch closed at ``closed``, in UTC: ``20261122T235959.123456Z``."""
    return closed.astimezone(UTC).strftime(_KEY_FORMAT)


def time_of(key: str) -> datetime | None:
    """When the batch of this key was closed; None for a conflict, which never was."""
    if _KEY.fullmatch(key) is None:
        return None
    try:
        return datetime.fromisoformat(key)  # ten times as fast as strptime, and of a node's ten thousand batches
    except ValueError:
        return None


def name_for(text: str) -> str:
    """A file name for any text: readable, and of its own also where characters had to be replaced."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", text)[:_NAME_LENGTH]
    return f"{readable}-{sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]}"


@dataclass(frozen=True)
class Layout:
    """The paths below one root, which is resolved: every link in a path is then one inside the spool."""

    root: Path

    def __post_init__(self) -> None:
        """Resolve the root."""
        object.__setattr__(self, "root", self.root.resolve())

    @property
    def receiving(self) -> Path:
        """Where bytes are written before they have a name; nothing in it was ever acknowledged."""
        return self.root / "receiving"

    def receiving_of(self, worker: str) -> Path:
        """The part of it that one worker writes, and clears when it starts."""
        return self.receiving / name_for(worker)

    @property
    def outboxes(self) -> Path:
        """Where derived instances lie."""
        return self.root / "outbox"

    @property
    def former_commitments(self) -> Path:
        """Where earlier releases kept what they asked for; what is waited for is asked anew."""
        return self.root / "commitments"

    def state(self, state: SeriesState) -> Path:
        """The folder of all series in ``state``."""
        return self.root / state.value

    def open_series(self, series_uid: str) -> Path:
        """The folder that takes the instances of a series while they arrive."""
        return self.series(SeriesState.OPEN, series_uid)

    def series(self, state: SeriesState, series_uid: str) -> Path:
        """The folder of a series in ``state``; it holds one folder per batch."""
        return self.state(state) / series_uid

    def batch(self, state: SeriesState, batch: Batch) -> Path:
        """The folder of a batch in ``state`` (not open: an open series is no batch yet)."""
        return self.series(state, batch.series_instance_uid) / batch.key

    def outbox(self, batch: Batch) -> Path:
        """The folder of a batch's derived instances."""
        return self.outboxes / batch.series_instance_uid / batch.key

    def folders(self) -> list[Path]:
        """Every folder the spool needs from the start."""
        return [self.receiving, self.outboxes, *(self.state(state) for state in SeriesState)]
