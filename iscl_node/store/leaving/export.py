"""Copies of what the spool has of a series, to look at or to bring elsewhere; nothing in the spool changes."""

import uuid
from pathlib import Path

from iscl_node.domain import Batch, SeriesState
from iscl_node.store import tree
from iscl_node.store.durable import PART_SUFFIX, make_folder, move_folder, sync_folder, write_synced
from iscl_node.store.inventory import batch_folders
from iscl_node.store.layout import Layout, is_uid

_ATTEMPTS = 10
"""A batch moves a few times in its life, so this only bounds a fault."""


def export(root: Path, series_uid: str, target: Path) -> dict[str, int]:
    """Copy every batch of a series, durably, with its derived instances, the reason and the picture if there are any.

    ``target/<state>-<key>/`` holds the received instances and the reason, ``derived/<derived series>/`` in it what lies
    in the outbox; a series that is still open is in ``target/open/``. While the node works on the series it is copied
    as it was at one moment, or not at all.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    series_uid : str
        Its Series Instance UID.
    target : Path
        A folder that is not there yet, outside of the spool; only its owner may read it.

    Returns
    -------
    dict of str to int
        How many files were copied, by the name of the folder in ``target``; empty if nothing is here of the series.

    Raises
    ------
    ValueError
        ``series_uid`` is not a UID, or ``target`` is there or in the spool.
    OSError
        It cannot be read or written; or the series keeps moving. Nothing is left in ``target``.
    """
    layout, target = Layout(root.resolve()), target.resolve()
    if not is_uid(series_uid):
        raise ValueError("that is not a UID (PS3.5 9.1)")
    if target.exists() or target.is_relative_to(layout.root):
        raise ValueError(f"{target} is there already or is in the spool; name a folder that is not")
    make_folder(target.parent)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        copied = _copy_series(layout, series_uid, part)
        if copied:
            move_folder(part, target)
    finally:
        tree.remove(part)
    return copied


def _copy_series(layout: Layout, series_uid: str, part: Path) -> dict[str, int]:
    for _ in range(_ATTEMPTS):
        found = _folders(layout, series_uid)
        part.mkdir(mode=0o700)
        try:
            copied = {
                name: sum(_copy(*pair) for pair in _pairs(folders, part / name)) for name, folders in found.items()
            }
        except FileNotFoundError:  # it moved
            copied = {}
        if found == _folders(layout, series_uid) and set(copied) == set(found):
            return copied
        tree.remove_folder(part)
    raise OSError(0, "the node is working on the series; try again")


def _folders(layout: Layout, series_uid: str) -> dict[str, tuple[Path, Path | None]]:
    """The folders of received instances by their names in a copy, each with the outbox of the batch."""
    found: dict[str, tuple[Path, Path | None]] = {}
    opened = layout.open_series(series_uid)
    if opened.is_dir() and tree.is_real(opened):
        found[SeriesState.OPEN.value] = opened, None
    for state in SeriesState:
        if state is not SeriesState.OPEN:
            for folder in batch_folders(layout.series(state, series_uid)):
                found[f"{state.value}-{folder.name}"] = folder, layout.outbox(Batch(series_uid, folder.name))
    return found


def _pairs(folders: tuple[Path, Path | None], target: Path) -> list[tuple[Path, Path]]:
    """What is copied where."""
    received, outbox = folders
    pairs = [(received, target)]
    if outbox is not None:
        pairs += [(series, target / "derived" / series.name) for series in tree.folders(outbox)]
    return pairs


def _copy(source: Path, target: Path) -> int:
    """Copy the files of a folder, and say how many."""
    source.stat()  # a folder that moved away is not an empty one
    files = [path for path in tree.files(source) if path.suffix != PART_SUFFIX]
    make_folder(target)
    for path in files:
        write_synced(target / path.name, tree.read_bytes(path))
    sync_folder(target)
    return len(files)
