"""How a received instance becomes durable, also under faults and beside other processes.

The order: part file written and synced, linked into its open series, the series' folder synced, and only then the
success the sender hears. A kill before the link leaves a part file, and no success was sent; a kill after it leaves an
instance the sender sends again, which is then found and is a success. A link, in contrast to a rename, never replaces
what has the name already: of two processes that receive one SOP Instance UID, one finds the other's.
"""

import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from iscl_node.domain import Arrival, Batch, InstanceHeader, SeriesState
from iscl_node.errors import RejectInstanceError
from iscl_node.store import tree
from iscl_node.store.durable import (
    PART_SUFFIX,
    make_folder,
    remove_if_empty,
    replace_synced,
    sync_entry,
    sync_folder,
    write_synced,
)
from iscl_node.store.layout import CONFLICT_PREFIX, REASON_FILE, Layout, file_name, is_uid
from iscl_node.store.receiving.conflicts import data_set, note_conflict
from iscl_node.store.receiving.free_space import Room

OUT_OF_RESOURCES = 0xA700
"""C-STORE status (PS3.4 Table B.2-1): the sender may try again."""
CANNOT_UNDERSTAND = 0xC000
"""C-STORE status (PS3.4 Table B.2-1): the same bytes will never be accepted."""

_ATTEMPTS = 1000
"""How often a name is looked for while other threads move its folder. A folder moves once or twice in its life, so this
only bounds a fault; ten were too few against a thread that closes the series without a pause."""

Differing = Callable[[bytes, bytes], str]
"""In what two instances of one SOP Instance UID differ, in words; empty if they are the same image."""

_CONFLICT_REASON = "Another data set arrived under a SOP Instance UID that was already here; they differ in {}.\n"


class Reception:
    """Takes instances into the open series of a spool.

    Parameters
    ----------
    layout : Layout
        The spool's folders.
    min_free_bytes : int
        Free space to leave.
    worker : str
        Names the folder in which part files are written.
    room : Room
        Says how much space what is here still needs.
    """

    def __init__(self, layout: Layout, min_free_bytes: int, worker: str, room: Room) -> None:
        self._room = room
        self._layout = layout
        self._receiving = layout.receiving_of(worker)
        self._min_free_bytes = min_free_bytes
        self._naming = threading.Lock()

    def store(self, header: InstanceHeader, part10: bytes, differing: Differing = lambda *_: "their bytes") -> Arrival:
        """Put an instance into its open series; on return it is durable.

        The same SOP Instance UID again is a success: with the same data set nothing happens; with another data set
        the first stays and the later one is kept in quarantine, and a series that is still open is to follow it
        there. Instances in quarantine are not compared, so that a quarantined series can be sent again in full.

        Parameters
        ----------
        header : InstanceHeader
            Whose UIDs name the file.
        part10 : bytes
            The instance in the DICOM File Format (PS3.10 7).
        differing : callable
            Asked of data sets whose bytes differ, because the same image comes in several encodings.

        Returns
        -------
        Arrival
            What it is to its series.

        Raises
        ------
        RejectInstanceError
            With 0xC000 for a UID that is none, 0xA700 if it cannot be made durable now.
        """
        _check_uids(header)
        part = self._receiving / f"{uuid.uuid4().hex}{PART_SUFFIX}"
        try:
            self._check_space(len(part10))
            write_synced(part, part10)
            return self._settle(part, header, part10, differing)
        except OSError as error:
            reason = f"the spool cannot store the instance: {error.strerror}"
            raise RejectInstanceError(OUT_OF_RESOURCES, reason) from error
        finally:
            # What cannot be removed now is removed by recover(); it must not turn a success into a failure.
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _check_space(self, size: int) -> None:
        reserved = self._min_free_bytes + self._room.promised_bytes
        if shutil.disk_usage(self._layout.root).free - size < reserved:
            raise RejectInstanceError(OUT_OF_RESOURCES, "the spool's free space is below its reserve")

    def _settle(self, part: Path, header: InstanceHeader, part10: bytes, differing: Differing) -> Arrival:
        """Give the part file its name, or find that the name is taken; either way durably."""
        for _ in range(_ATTEMPTS):
            # Another thread may close the series at any point here; then the name is looked for again.
            with contextlib.suppress(FileNotFoundError):
                there = self._name(part, header)
                if there is None:
                    self._sync_wherever(header)
                    self._room.note_received(len(part10))
                    return Arrival.NEW
                return self._answer_duplicate(there, part, header, part10, differing)
        raise OSError(0, "the series' folder keeps moving")

    def _name(self, part: Path, header: InstanceHeader) -> Path | None:
        """Link the part file into its series, or return the instance that has the name."""
        with self._naming:
            there = self.find(header)
            if there is not None:
                return there
            folder = self._layout.open_series(header.series_instance_uid)
            make_folder(folder)
            try:
                os.link(part, folder / file_name(header.sop_instance_uid))
            except FileExistsError:  # another process was faster; or NFS did it, and the answer was lost (link(2))
                there = folder / file_name(header.sop_instance_uid)
                return None if there.samefile(part) else there
            return None

    def _sync_wherever(self, header: InstanceHeader) -> None:
        """Sync the name of an instance in its open series, or in the batch it was closed into."""
        for _ in range(_ATTEMPTS):
            there = self.find(header)
            with contextlib.suppress(FileNotFoundError):
                if there is not None:
                    sync_entry(there)
                    return
        raise OSError(0, "the series' folder keeps moving")

    def _answer_duplicate(
        self, there: Path, part: Path, header: InstanceHeader, part10: bytes, differing: Differing
    ) -> Arrival:
        """Keep the data set that has the name; another one goes to quarantine."""
        known = tree.read_bytes(there)
        difference = "" if data_set(known) == data_set(part10) else differing(known, part10)
        if difference:
            if there.parent == self._layout.open_series(header.series_instance_uid):
                note_conflict(there.parent, difference)  # before the part file moves, which is needed for another try
            self._keep_conflict(part, header, part10, difference)
            return Arrival.CONFLICT
        # The first may have been named a moment ago by another thread and not be synced yet.
        sync_entry(there)
        # A sender that repeats itself is still sending: its series is not quiet.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._layout.open_series(header.series_instance_uid))
        return Arrival.REPEATED

    def _keep_conflict(self, part: Path, header: InstanceHeader, part10: bytes, difference: str) -> None:
        folder = self._conflict_folder(header, part10, difference)
        try:
            make_folder(folder)
            replace_synced(folder / REASON_FILE, _CONFLICT_REASON.format(difference).encode())
        except OSError:
            remove_if_empty(folder)  # a folder of nothing would be in quarantine until a person looks
            raise
        part.rename(folder / file_name(header.sop_instance_uid))
        sync_folder(folder)

    def _conflict_folder(self, header: InstanceHeader, part10: bytes, difference: str) -> Path:
        """One folder for all instances of a series that differ in the same; a further one for a third data set."""
        shared = self._conflict_of(header, difference.encode())
        kept = shared / file_name(header.sop_instance_uid)
        is_taken = tree.is_file(kept) and data_set(tree.read_bytes(kept)) != data_set(part10)
        return self._conflict_of(header, data_set(part10)) if is_taken else shared

    def _conflict_of(self, header: InstanceHeader, what: bytes) -> Path:
        key = CONFLICT_PREFIX + sha256(what).hexdigest()[:16]
        return self._layout.batch(SeriesState.QUARANTINE, Batch(header.series_instance_uid, key))

    def find(self, header: InstanceHeader) -> Path | None:
        """Where an instance lies, if in an open series, or a batch that is closed, sent or done.

        The order is the way a series goes, so an instance that moves at the same time is not missed.
        """
        name = file_name(header.sop_instance_uid)
        in_open = self._layout.open_series(header.series_instance_uid) / name
        if os.path.lexists(in_open):
            return in_open
        for state in (SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE):
            for folder in tree.folders(self._layout.series(state, header.series_instance_uid)):
                if tree.is_file(folder / name):
                    return folder / name
        return None


def _check_uids(header: InstanceHeader) -> None:
    """Reject UIDs that may not become a path."""
    for name, uid in (("Series", header.series_instance_uid), ("SOP", header.sop_instance_uid)):
        if not is_uid(uid):
            raise RejectInstanceError(CANNOT_UNDERSTAND, f"the {name} Instance UID is not a UID (PS3.5 9.1)")
