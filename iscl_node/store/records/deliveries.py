"""What each destination of a batch answered, and what it confirmed: files in the batch's own folder.

::

    <key>.destinations.json      where the batch goes; there before anything is sent
    <key>.<destination>.jsonl    one JSON object a line, in the order in which it became known: the answer for each
                                 instance, what the destination does not have, why it refuses, that it has everything

They move, are exported and are deleted with the batch. The key in the names distinguishes attempts: a batch that is
requeued gets another one, and keeps what was written before. A last line that was torn by a kill is passed over.
A confirmation counts for what was stored before it: a batch that an upgrade begins anew keeps its records.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from iscl_node.domain import Batch, SeriesState, StoreAnswer
from iscl_node.store.durable import append, append_synced, replace_synced
from iscl_node.store.layout import Layout, name_for
from iscl_node.store.tree import read_bytes

_UNDER_WAY = (SeriesState.CLOSED, SeriesState.SENT)
"""Where a batch is while it is delivered, in the order of its way."""

FRUITLESS_ROUNDS: Final = 5
"""After so many rounds in which a destination took everything and showed nothing, nothing is stored there any more."""

AGAIN: Final = "again"
"""The line of a record behind which nothing counts that was before: everything is sent once more."""

_WANTED: Final[Mapping[str, Mapping[str, type]]] = {
    "answered": {"stored": bool, "sop_instance_uid": str, "sop_class_uid": str},
    "missing": {"sop_instance_uid": str, "round": int},
    "refused": {"reason": str},
}
"""What a line of a record must have, by its event."""

_NOT_THERE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class DeliveryRecord:
    """What is known of a batch at one destination.

    ``stored`` has the SOP Class UID of each instance that the destination stored and is not known to miss, by SOP
    Instance UID; ``missing`` the instances that it turned out not to have, and that it was not sent since; ``rounds``
    counts how often that happened; ``refusal`` is why it refuses for good, or empty. ``instances`` is as ``stored``,
    with those that it turned out to miss; ``fruitless_rounds`` is how often in succession it missed all of them.
    ``again`` is how often a person had everything sent once more; what was before does not count.
    """

    stored: Mapping[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    rounds: int = 0
    refusal: str = ""
    is_confirmed: bool = False
    instances: Mapping[str, str] = field(default_factory=dict)
    fruitless_rounds: int = 0
    again: int = 0

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is stored there, because it took everything again and again and shows nothing."""
        return self.fruitless_rounds >= FRUITLESS_ROUNDS and not self.is_confirmed


class Deliveries:
    """Keeps the records of deliveries.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)

    def begin(
        self,
        batch: Batch,
        destinations: Sequence[str],
        running_seconds: float = 0.0,
        made: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Write down where a closed batch goes, durably, how long the node had run by then, and what was made.

        What was written before is replaced. ``made`` has the UID of each derived series, in the order in which they
        are sent, and how many instances it has.

        Raises
        ------
        OSError
            The disk refuses it, or the batch is not closed.
        """
        entry = {
            "time": _now(),
            "destinations": list(destinations),
            "running_seconds": running_seconds,
            "made": [list(each) for each in made],
        }
        folder = self._layout.batch(SeriesState.CLOSED, batch)
        replace_synced(folder / _destinations_file(batch), json.dumps(entry).encode() + b"\n")

    def begin_again(self, batch: Batch, destinations: Collection[str], running_seconds: float) -> tuple[str, ...]:
        """Write into the records of a delivered batch that some of its destinations are sent everything once more.

        Returns
        -------
        tuple of str
            Those that the batch went to.

        Raises
        ------
        OSError
            The disk refuses it.
        """
        folder = self._layout.batch(SeriesState.DONE, batch)
        with suppress(*_NOT_THERE, ValueError):
            begun = json.loads(read_bytes(folder / _destinations_file(batch)))
            names = tuple(name for name in begun["destinations"] if name in destinations)
            entry = {**begun, "running_seconds": running_seconds}
            replace_synced(folder / _destinations_file(batch), json.dumps(entry).encode() + b"\n")
            for name in names:
                append_synced(folder / record_file(batch, name), _line({"event": AGAIN}))
            return names
        return ()

    def destinations(self, batch: Batch) -> tuple[str, ...]:
        """Where a batch goes; empty as long as that is not decided, or if its file is damaged."""
        return tuple(self._begun(batch).get("destinations", ()))

    def began(self, batch: Batch) -> float | None:
        """How long the node had run, in seconds, when the delivery of a batch began; None if it did not begin."""
        return self._begun(batch).get("running_seconds")

    def made(self, batch: Batch) -> list[tuple[str, int]]:
        """The UID of each derived series, and how many instances it has; empty if an earlier release began it."""
        return [(str(series_uid), int(count)) for series_uid, count in self._begun(batch).get("made", ())]

    def is_under_way(self, batch: Batch) -> bool:
        """Whether a batch is closed or sent; asked in the order of its way, so that one that moves is not missed."""
        return any(folder.is_dir() for folder in self._folders(batch))

    def _begun(self, batch: Batch) -> dict[str, Any]:
        for folder in self._folders(batch):
            with suppress(*_NOT_THERE, ValueError):
                begun: dict[str, Any] = json.loads(read_bytes(folder / _destinations_file(batch)))
                return begun
        return {}

    def record(self, batch: Batch, destination: str) -> DeliveryRecord:
        """What is known so far; nothing if the batch is neither closed nor sent."""
        for folder in self._folders(batch):
            with suppress(*_NOT_THERE):
                return summary(entries(read_bytes(folder / record_file(batch, destination))))
        return DeliveryRecord()

    def note_answers(
        self, batch: Batch, destination: str, answers: Iterable[StoreAnswer], *, is_synced: bool = True
    ) -> None:
        """Add what a destination answered for each instance; without a sync a power cut may undo it, a kill does not.

        For the errors see `note_refusal`.
        """
        entries = [
            {
                "event": "answered",
                "sop_class_uid": each.instance.sop_class_uid,
                "sop_instance_uid": each.instance.sop_instance_uid,
                "status": "none" if each.status is None else f"{each.status:04X}",
                "stored": each.is_stored,
            }
            for each in answers
        ]
        self._note(batch, destination, entries, append_synced if is_synced else append)

    def note_missing(self, batch: Batch, destination: str, reasons: Mapping[str, str], round_: int) -> None:
        """Add what a destination does not have: why, by SOP Instance UID, and the how-maniest round this ends."""
        missing = [
            {"event": "missing", "sop_instance_uid": uid, "reason": reason, "round": round_}
            for uid, reason in reasons.items()
        ]
        self._note(batch, destination, missing)

    def note_refusal(self, batch: Batch, destination: str, reason: str) -> None:
        """Add why a destination takes the batch never.

        Raises
        ------
        FileNotFoundError
            The batch is neither closed nor sent.
        OSError
            The disk refuses it.
        """
        self._note(batch, destination, [{"event": "refused", "reason": reason}])

    def note_confirmed(self, batch: Batch, destination: str, way: str, transaction_uid: str = "") -> None:
        """Add that a destination has everything, and how it said so. For the errors see `note_refusal`."""
        self._note(batch, destination, [{"event": "confirmed", "way": way, "transaction_uid": transaction_uid}])

    def _note(
        self,
        batch: Batch,
        destination: str,
        entries: Sequence[Mapping[str, object]],
        add: Callable[[Path, bytes], None] | None = None,
    ) -> None:
        lines = b"".join(map(_line, entries))
        for folder in self._folders(batch):
            with suppress(*_NOT_THERE):  # it has moved on
                (add or append_synced)(folder / record_file(batch, destination), lines)
                return
        raise FileNotFoundError("the batch is neither closed nor sent")

    def _folders(self, batch: Batch) -> Iterator[Path]:
        return (self._layout.batch(state, batch) for state in _UNDER_WAY)


def _line(entry: Mapping[str, object]) -> bytes:
    return json.dumps({"time": _now(), **entry}).encode() + b"\n"


def _destinations_file(batch: Batch) -> str:
    return f"{batch.key}.destinations.json"


def record_file(batch: Batch, destination: str) -> str:
    return f"{batch.key}.{name_for(destination)}.jsonl"


def entries(content: bytes) -> Iterator[dict[str, Any]]:
    """The lines of a record; what is none of its lines is passed over."""
    for line in content.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and _is_line(entry):
                yield entry


def _is_line(entry: Mapping[str, Any]) -> bool:
    """Whether it is an event with what belongs to it; an event of a later release is one."""
    wanted = _WANTED.get(entry["event"], {}) if isinstance(entry.get("event"), str) else None
    return wanted is not None and all(isinstance(entry.get(name), kind) for name, kind in wanted.items())


def summary(lines: Iterable[Mapping[str, Any]]) -> DeliveryRecord:
    """What the lines of a record say together, after the last that has everything sent once more."""
    lines = list(lines)
    begins = [number for number, entry in enumerate(lines, 1) if entry["event"] == AGAIN]
    return _summary(lines[begins[-1] if begins else 0 :], len(begins))


def _summary(lines: Iterable[Mapping[str, Any]], again: int) -> DeliveryRecord:
    instances: dict[str, str] = {}
    missing: set[str] = set()
    missed_in: dict[int, set[str]] = {}
    refusal, is_confirmed = "", False
    for entry in lines:
        match entry["event"]:
            case "answered" if entry["stored"]:
                instances[entry["sop_instance_uid"]] = entry["sop_class_uid"]
                missing.discard(entry["sop_instance_uid"])
                is_confirmed = False
            case "missing":
                missing.add(entry["sop_instance_uid"])
                missed_in.setdefault(entry["round"], set()).add(entry["sop_instance_uid"])
            case "refused":
                refusal = entry["reason"]
            case "confirmed":
                is_confirmed = True
    stored = {uid: sop_class for uid, sop_class in instances.items() if uid not in missing}
    rounds, fruitless = max(missed_in, default=0), _fruitless(instances, missed_in)
    return DeliveryRecord(stored, frozenset(missing), rounds, refusal, is_confirmed, instances, fruitless, again)


def _fruitless(instances: Mapping[str, str], missed_in: Mapping[int, set[str]]) -> int:
    """How many of the last rounds ended with everything missing."""
    fruitless, round_ = 0, max(missed_in, default=0)
    while missed_in.get(round_, set()) >= instances.keys() and round_ > 0:
        fruitless, round_ = fruitless + 1, round_ - 1
    return fruitless


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
