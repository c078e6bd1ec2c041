"""The spool: DICOM files in folders, on disk before the sender hears so.

State is only where the bytes lie, so every series is found again after a kill at any instant; every change of state is
one rename of a folder. Any number of processes may receive into a spool and work on it, each under its own name.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from iscl_node.domain import Arrival, Batch, InstanceHeader, SeriesState, SetAsideBatch
from iscl_node.errors import RetryLaterError
from iscl_node.store import tree
from iscl_node.store.batches.recovery import recover, remove_outbox
from iscl_node.store.batches.set_aside import set_aside
from iscl_node.store.durable import make_folder, move_folder, remove_if_empty, replace_synced
from iscl_node.store.inventory import BATCH_STATES, batch_folders, batches, open_series, strays
from iscl_node.store.known_folders import KnownFolders
from iscl_node.store.layout import (
    CONFLICT_FILE,
    CONFLICT_PREFIX,
    INCOMPLETE_FILE,
    PICTURE_FILE,
    REASON_FILE,
    Layout,
    file_name,
    is_uid,
    key_of,
    time_of,
)
from iscl_node.store.receiving.conflicts import contradicts
from iscl_node.store.receiving.free_space import Room
from iscl_node.store.receiving.reception import Differing, Reception
from iscl_node.store.records.refused_slice import FACTS_FILE, RESULT_FILE


class Spool:
    """Received series, their derived instances, and what became of them.

    Use `Spool.open`, which makes the folders.

    Parameters
    ----------
    root : Path
        The folder of the spool; all of it on one file system, since everything moves by rename.
    min_free_bytes : int
        Free space to leave: below it an instance is rejected, so that what is already here can still be worked on.
    worker : str
        The name of who works here; two at the same time need two.
    derived_per_received : float
        Bytes of derived objects for each byte that is received, at most; so much is reserved for them.
    """

    def __init__(self, root: Path, min_free_bytes: int, worker: str = "node", derived_per_received: float = 0) -> None:
        self._layout = Layout(root)
        self.worker = worker
        self.room = Room(self._layout, min_free_bytes, derived_per_received)
        self._reception = Reception(self._layout, min_free_bytes, worker, self.room)
        self.place_of = self._reception.find

    @classmethod
    def open(cls, root: Path, min_free_bytes: int, worker: str = "node", derived_per_received: float = 0) -> "Spool":
        """Make the folders that are missing and return the spool; a new one is readable for its owner only.

        Raises
        ------
        OSError
            The folders cannot be made, or one of them is a link.
        """
        spool = cls(root, min_free_bytes, worker, derived_per_received)
        make_folder(spool.root, mode=0o700)
        for folder in [*spool._layout.folders(), spool._layout.receiving_of(worker)]:
            make_folder(folder)
        return spool

    @property
    def root(self) -> Path:
        """The folder of the spool."""
        return self._layout.root

    def recover(self) -> int:
        """Remove what a killed receiver left half-written, and say how many.

        Nothing of it was ever acknowledged, so nothing is lost. Call it before receiving starts; what other workers
        receive stays. Derived instances of a batch that reached its end at the very moment of a kill go, too.
        """
        return recover(self._layout, self.worker)

    # Receiving

    def store(self, header: InstanceHeader, part10: bytes, differing: Differing = lambda *_: "their bytes") -> Arrival:
        """Put an instance into its open series; on return it is durable. See `Reception.store`."""
        return self._reception.store(header, part10, differing)

    # Closing

    def quiet_series(self, now: float, quiet_seconds: float) -> list[str]:
        """The open series for which nothing arrived for ``quiet_seconds``.

        An arrival sets the modification time of the series' folder, so that time is the newest arrival. Its distance
        from ``now`` counts in both directions: a clock set back by more than ``quiet_seconds`` closes a series early
        (what still comes makes a further batch), and never holds one back.

        Parameters
        ----------
        now : float
            Seconds since the epoch, as `time.time` gives them.
        quiet_seconds : float
            How long nothing must have arrived.
        """
        folders = open_series(self._layout)
        return [folder.name for folder, arrival in folders if abs(now - arrival) >= quiet_seconds]

    def close(self, series_uid: str, now: datetime, incomplete: str = "") -> Batch:
        """Make a batch of what arrived of a series so far; what arrives later makes a further batch.

        ``incomplete`` says what is missing, if the batch is to go to quarantine for that.

        Raises
        ------
        FileNotFoundError
            The series is not open.
        """
        batch = self.fresh_batch(series_uid, now)
        folder = self._layout.open_series(series_uid)
        # Before the move, so that no closed batch lacks it; one of an earlier try that was killed in between goes.
        (folder / INCOMPLETE_FILE).unlink(missing_ok=True)
        if incomplete:
            replace_synced(folder / INCOMPLETE_FILE, f"{incomplete}\n".encode(errors="replace"))
        move_folder(self._layout.open_series(series_uid), self._layout.batch(SeriesState.CLOSED, batch))
        return batch

    def fresh_batch(self, series_uid: str, now: datetime) -> Batch:
        """A batch whose key no other batch of the series has, in any state: the key names its workflow for ever.

        It is later than theirs also when the clock was set back, because the first batch says when the derived series
        was started.
        """
        folders = (folder for state in BATCH_STATES for folder in batch_folders(self._layout.series(state, series_uid)))
        latest = max((time for folder in folders if (time := time_of(folder.name))), default=None)
        if latest is not None and now <= latest:
            now = latest + timedelta(microseconds=1)
        return Batch(series_uid, key_of(now))

    # Working on a batch

    def closed_batches(self) -> list[Batch]:
        """The batches that wait for, or are in, the workflow; oldest first within a series."""
        return sorted(batches(self._layout, SeriesState.CLOSED))

    def sent_batches(self) -> list[Batch]:
        """The batches that every destination stored, and that not all have confirmed; oldest first within a series."""
        return sorted(batches(self._layout, SeriesState.SENT))

    def batches_under_way(self) -> list[Batch]:
        """The batches that have not come to their end: closed or sent."""
        return [*self.closed_batches(), *self.sent_batches()]

    def is_sent(self, batch: Batch) -> bool:
        """Whether a batch waits only for its destinations' confirmation."""
        return self._layout.batch(SeriesState.SENT, batch).is_dir()

    def instances(self, batch: Batch) -> list[Path]:
        """The files of a batch wherever it is, sorted by name; empty if it was purged.

        Any of them may be no regular file: a person, not the node, put it there.
        """
        folders = (self._layout.batch(state, batch) for state in BATCH_STATES)
        found = ((folder, names) for folder in folders if (names := tree.names(folder, ".dcm")))
        return next(([folder / name for name in names] for folder, names in found), [])

    def incomplete(self, batch: Batch) -> str:
        """What was missing of a closed batch that is to go to quarantine for that; empty for any other."""
        try:
            content = tree.read_bytes(self._layout.batch(SeriesState.CLOSED, batch) / INCOMPLETE_FILE)
            return content.decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def instance_count(self, series_uid: str) -> int:
        """How many instances of a series are here, in batches of any state; one that was sent twice counts once."""
        series = (self._layout.series(state, series_uid) for state in BATCH_STATES)
        folders = (folder for each in series for folder in batch_folders(each))
        return len({name for folder in folders for name in tree.names(folder, ".dcm")})

    def first_closed(self, batch: Batch) -> datetime:
        """When the oldest batch of the batch's series that is not in quarantine was closed.

        The derived instances of a late slice take this as the start of their series, as the earlier ones did.
        """
        siblings = (
            each
            for state in (SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE)
            for folder in batch_folders(self._layout.series(state, batch.series_instance_uid))
            if (each := time_of(folder.name)) is not None
        )
        return min(siblings)

    def outbox(self, batch: Batch) -> Path:
        """The folder of the batch's derived instances; it exists once the first is written."""
        return self._layout.outbox(batch)

    def write_derived(self, batch: Batch, series_uid: str, sop_uid: str, data: bytes) -> Path:
        """Put a derived instance into the batch's outbox, durably; one that is there already stays as it is.

        Raises
        ------
        ValueError
            ``series_uid`` or ``sop_uid``, the derived instance's own, is not a UID.
        RetryLaterError
            The file system refuses it now.
        """
        if not (is_uid(series_uid) and is_uid(sop_uid)):
            raise ValueError("the Series or SOP Instance UID of a derived instance is not a UID (PS3.5 9.1)")
        path = self._layout.outbox(batch) / series_uid / file_name(sop_uid)
        if path.exists():
            return path
        try:
            make_folder(path.parent)
            replace_synced(path, data)
        except OSError as error:
            raise RetryLaterError(f"the spool cannot store a derived instance: {error.strerror}") from error
        return path

    def derived(self, batch: Batch, series_uid: str) -> list[Path]:
        """What a batch has of one derived series, sorted by name."""
        return tree.files(self._layout.outbox(batch) / series_uid, ".dcm")

    def derived_instances(self, batch: Batch) -> dict[str, str]:
        """What the outbox has of a batch: the Series Instance UID of each derived instance by its SOP Instance UID."""
        series = tree.folders(self._layout.outbox(batch))
        return {path.stem: each.name for each in series for path in tree.files(each, ".dcm")}

    def has_derived(self, batch: Batch, series_uid: str, sop_uid: str) -> bool:
        """Whether this derived instance is in the outbox."""
        return (self._layout.outbox(batch) / series_uid / file_name(sop_uid)).exists()

    def keep_picture(self, batch: Batch, png: bytes) -> None:
        """Put a picture of what is wrong into the folder of a closed batch; for the errors see `refused_slice`."""
        replace_synced(self._layout.batch(SeriesState.CLOSED, batch) / PICTURE_FILE, png)

    # Ends of a batch

    def mark_sent(self, batch: Batch) -> None:
        """Move a closed batch to `sent`: every destination has stored it. One that is already further on stays there.

        Raises
        ------
        FileNotFoundError
            The batch is nowhere.
        """
        try:
            self._move(batch, SeriesState.SENT)
        except FileNotFoundError:
            ends = (SeriesState.DONE, SeriesState.QUARANTINE)
            if not any(self._layout.batch(state, batch).exists() for state in ends):
                raise

    def release(self, batch: Batch) -> bool:
        """Mark a batch as delivered; may be repeated after a crash. Its derived instances are kept as long as it is.

        Of several processes one does it: for the others it is false.

        Raises
        ------
        FileNotFoundError
            The batch is neither closed, sent nor done.
        """
        return self._move(batch, SeriesState.DONE)

    def quarantine(self, batch: Batch, reason: str) -> bool:
        """Set a batch aside for a person, with the reason; may be repeated after a crash. For the result see `release`.

        Its derived instances are removed: they may be wrong, and a requeue computes them again.

        Raises
        ------
        FileNotFoundError
            The batch is neither closed, sent nor in quarantine.
        """
        return self._set_aside(batch, SeriesState.QUARANTINE, reason)

    def ignore(self, batch: Batch, reason: str) -> None:
        """Leave a batch unprocessed, with the reason; it is purged as a delivered one. May be repeated after a crash.

        Raises
        ------
        FileNotFoundError
            The batch is neither closed nor ignored.
        """
        self._set_aside(batch, SeriesState.IGNORED, reason)

    def _set_aside(self, batch: Batch, state: SeriesState, reason: str) -> bool:
        folder = self._under_way(batch)
        # Before the move, so that a folder that is set aside has its reason from the first instant. On a full disk the
        # move matters more than the reason; after a crash the folder may have moved already. What is written also
        # sets the time of the folder, from which the retention time counts.
        with contextlib.suppress(OSError):
            replace_synced(folder / REASON_FILE, f"{reason}\n".encode(errors="replace"))
        is_moved = self._move(batch, state)
        remove_outbox(self._layout, batch)  # last, so that a batch that is under way keeps its own
        return is_moved

    def _move(self, batch: Batch, state: SeriesState) -> bool:
        """Move a batch that is under way; what is there already stays there, and then it is false."""
        source, target = self._under_way(batch), self._layout.batch(state, batch)
        if source == target:
            return False
        is_to_move = source.exists() or not target.exists()
        if is_to_move:
            os.utime(source)  # how long it is in the state, and its retention time, count from now
            move_folder(source, target)
        remove_if_empty(source.parent)
        return is_to_move

    def _under_way(self, batch: Batch) -> Path:
        """The folder of a batch that is sent, or else closed."""
        sent = self._layout.batch(SeriesState.SENT, batch)
        return sent if sent.exists() else self._layout.batch(SeriesState.CLOSED, batch)

    def requeue(self, series_uid: str, now: datetime) -> list[Batch]:
        """Give the batches of a series that are set aside back to the workflow, each under a new key.

        What holds another data set than was, or is, processed under the same SOP Instance UID stays where it is.

        Parameters
        ----------
        series_uid : str
            A Series Instance UID; with one that is not set aside nothing happens.
        now : datetime
            Names the new batches.
        """
        requeued = []
        for quarantined in [*self.quarantined(), *self.ignored()]:
            old = quarantined.batch
            if old.series_instance_uid != series_uid:
                continue
            if old.key.startswith(CONFLICT_PREFIX) or contradicts(self._layout, quarantined.folder):
                continue
            new = self.fresh_batch(series_uid, now)
            folder = self._layout.batch(SeriesState.CLOSED, new)
            # The reason goes after the move: left over by a crash it does no harm in a closed batch.
            # What sent it there goes before it: left over by a crash it would bring the batch to quarantine again.
            for name in (INCOMPLETE_FILE, CONFLICT_FILE):
                (quarantined.folder / name).unlink(missing_ok=True)
            move_folder(quarantined.folder, folder)
            for name in (REASON_FILE, PICTURE_FILE, FACTS_FILE, RESULT_FILE):
                (folder / name).unlink(missing_ok=True)
            remove_if_empty(quarantined.folder.parent)
            requeued.append(new)
        return requeued

    # Looking

    def quarantined(self) -> list[SetAsideBatch]:
        """The batches that wait for a person, sorted."""
        return self._batches_set_aside(SeriesState.QUARANTINE)

    def ignored(self) -> list[SetAsideBatch]:
        """The batches that are left alone, sorted."""
        return self._batches_set_aside(SeriesState.IGNORED)

    def _batches_set_aside(self, state: SeriesState) -> list[SetAsideBatch]:
        found = []
        for batch in sorted(batches(self._layout, state)):
            with contextlib.suppress(FileNotFoundError):  # it was taken away
                found.append(set_aside(batch, self._layout.batch(state, batch)))
        return found

    def counts(self, states: Iterable[SeriesState] = BATCH_STATES) -> dict[SeriesState, int]:
        """How many open series, and how many batches in each other state, or in some."""
        counts = {state: sum(1 for _ in batches(self._layout, state)) for state in states}
        return {SeriesState.OPEN: sum(1 for _ in open_series(self._layout)), **counts}

    def strays(self, known: KnownFolders | None = None) -> dict[str, int]:
        """How much lies in each state that is no batch, and is left alone: links, files, foreign names."""
        return strays(self._layout, known or KnownFolders())

    def oldest_waiting(self, now: float) -> float:
        """Seconds since the oldest undelivered batch was closed, or an open series last grew; 0 if none waits."""
        closed = [time.timestamp() for batch in self.closed_batches() if (time := time_of(batch.key))]
        arrivals = [arrival for _, arrival in open_series(self._layout)]
        return max(0.0, now - min(closed + arrivals, default=now))

    def free_bytes(self) -> int:
        """Free space of the spool's file system."""
        return shutil.disk_usage(self.root).free

    def oldest_in(self, state: SeriesState, now: float) -> float:
        """Seconds since something changed last in the oldest batch of a state; 0 if there is none."""
        times = []
        for batch in batches(self._layout, state):
            with contextlib.suppress(FileNotFoundError):
                times.append(self._layout.batch(state, batch).stat().st_mtime)
        return max(0.0, now - min(times, default=now))
