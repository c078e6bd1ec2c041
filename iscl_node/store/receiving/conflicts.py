"""When one SOP Instance UID stands for two data sets: the derived instances of both would have one UID, too."""

from contextlib import suppress
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.durable import replace_synced
from iscl_node.store.layout import CONFLICT_FILE, Layout

_PROCESSED = (SeriesState.OPEN, SeriesState.CLOSED, SeriesState.SENT, SeriesState.DONE)
"""The states of series that are, or were, on their way to the destinations."""


def contradicts(layout: Layout, folder: Path) -> bool:
    """Whether a batch in quarantine, or an ignored one, holds an instance of which another data set was processed.

    Parameters
    ----------
    layout : Layout
        The spool's folders.
    folder : Path
        Of the batch, inside the folder of its series.
    """
    for instance in tree.files(folder, ".dcm"):
        for state in _PROCESSED:
            series = layout.series(state, folder.parent.name)
            for place in [series] if state is SeriesState.OPEN else tree.folders(series):
                with suppress(FileNotFoundError):  # it is not there, or moves on and is found in its next state
                    if data_set(tree.read_bytes(place / instance.name)) != data_set(tree.read_bytes(instance)):
                        return True
    return False


def note_conflict(open_series: Path, difference: str) -> None:
    """Note in an open series that another data set came under one of its UIDs; which of them is right is unknown.

    Parameters
    ----------
    open_series : Path
        The folder of the series.
    difference : str
        In what they differ, in words.

    Raises
    ------
    OSError
        It is not safely on disk; a FileNotFoundError if the series is closed.
    """
    replace_synced(open_series / CONFLICT_FILE, f"{difference}\n".encode(errors="replace"))


def noted_conflict(root: Path, batch: Batch) -> str:
    """In what two data sets of one UID differ that came before the batch was closed; empty if none did.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    batch : Batch
        A closed one.
    """
    try:
        content = tree.read_bytes(Layout(root).batch(SeriesState.CLOSED, batch) / CONFLICT_FILE)
        return content.decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def data_set(part10: bytes) -> bytes:
    """Return the data set without the File Meta Information, which names the sender and so differs between senders.

    PS3.10 7.1: 128 bytes of preamble, ``DICM``, then (0002,0000) whose value (an UL, explicit VR little endian) is the
    number of bytes that follow it in the group.
    """
    if part10[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        return part10
    return part10[144 + int.from_bytes(part10[140:144], "little") :]
