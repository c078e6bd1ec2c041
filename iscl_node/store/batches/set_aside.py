"""What can be told of a batch that is not processed, from what lies in its folder."""

from pathlib import Path

from iscl_node.domain import Batch, SetAsideBatch
from iscl_node.store import tree
from iscl_node.store.layout import PICTURE_FILE, REASON_FILE


def set_aside(batch: Batch, folder: Path) -> SetAsideBatch:
    """Describe a batch in quarantine, or an ignored one, by its folder.

    Raises
    ------
    FileNotFoundError
        It was taken away meanwhile.
    """
    sizes = list(tree.sizes(folder))
    return SetAsideBatch(
        batch, _reason(folder), folder, _picture(folder), folder.stat().st_mtime, len(sizes), sum(sizes)
    )


def _reason(folder: Path) -> str:
    try:
        return tree.read_bytes(folder / REASON_FILE).decode(errors="replace").strip()
    except FileNotFoundError:
        return "no reason was recorded"


def _picture(folder: Path) -> Path | None:
    path = folder / PICTURE_FILE
    return path if tree.is_file(path) else None
