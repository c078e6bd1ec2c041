"""What is known of a batch in quarantine, or an ignored one, from its folder."""

import re
from pathlib import Path
from typing import Final

from iscl_node.domain import Batch, SetAsideBatch
from iscl_node.store import tree
from iscl_node.store.layout import PICTURE_FILE, REASON_FILE

REASON_CLASSES: Final = {
    "conflict": "same SOP Instance UID|another data set",
    "identity": r"\d+ \w+( \w+){0,3} in one series",
    "incomplete": "^incomplete ",
    "settings": r"\[\[rules]]|rule .* is gone|model or the rule|gone from the settings",
    "destination": "^(peer|destination|given up) ",
    "content": "Hounsfield|Rescale|Units|Image Type|localizer|slope|map",
    "pixels": "[Pp]ixel|codec|[Bb]its|attribute|decode",
    "judge": "noise|contrast|edge|structure|mean|HU",
    "unforeseen": "^unforeseen",
}
"""What a reason is about, by a pattern in it; the first counts, and what has none is ``other``."""


def reason_class(reason: str) -> str:
    """The class of a reason, of which there are few."""
    return next((name for name, pattern in REASON_CLASSES.items() if re.search(pattern, reason)), "other")


def set_aside(batch: Batch, folder: Path) -> SetAsideBatch:
    """Describe a batch in quarantine, or an ignored one, by its folder.

    Raises
    ------
    FileNotFoundError
        It was taken away.
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
