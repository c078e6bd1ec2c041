"""Whether what was made is valid DICOM: one instance of each derived series, and its source, through dciodvfy.

Only when somebody looks, one at a time, and once for each batch.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iscl_node.dicom.reading import dciodvfy
from iscl_node.dicom.reading.display import provenance_of
from iscl_node.pipeline.page.overview import Row
from iscl_node.store import tree
from iscl_node.store.layout import Layout

_KEPT: Final = 200

Find = Callable[[Path], frozenset[str] | None]


@dataclass(frozen=True)
class CheckedSeries:
    """One derived series: what is said of it alone, and of its source, too; None where the validator came to no end."""

    description: str
    own: tuple[str, ...] | None
    inherited: tuple[str, ...] = ()
    known: int = 0
    """How many of what is said is known to be no fault."""

    @property
    def errors(self) -> int:
        """How many of its own are errors."""
        return sum(line.startswith("Error") for line in self.own or ())


def installed() -> Find | None:
    """The validator; None if there is none."""
    found = dciodvfy.program()
    return None if found is None else lambda path: dciodvfy.findings(found, path)


class Validity:
    """Checks; safe to be used by several threads.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    find : callable, optional
        Returns what a validator says of a file; without it nothing is checked.
    """

    def __init__(self, root: Path, find: Find | None = None) -> None:
        self._layout = Layout(root)
        self._find = find or installed()
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[object, ...], list[CheckedSeries]] = OrderedDict()

    def of(self, row: Row) -> list[CheckedSeries] | None:
        """What is said of each derived series of a batch; None if no validator is installed."""
        if self._find is None:
            return None
        mark = (row.listed.batch, tuple(sorted(row.listed.derived)))
        with self._lock:
            if mark not in self._known:
                self._known[mark] = self._checked(row, self._find)
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return self._known[mark]

    def _checked(self, row: Row, find: Find) -> list[CheckedSeries]:
        listed = row.listed
        source = (find(listed.folder / listed.instances[0]) if listed.instances else None) or frozenset()
        outbox = self._layout.outbox(listed.batch)
        firsts = (tree.files(outbox / uid, ".dcm")[:1] for uid in sorted(listed.derived))
        return [_compared(path, find(path), source) for files in firsts for path in files]


def _compared(path: Path, found: frozenset[str] | None, source: frozenset[str]) -> CheckedSeries:
    description = provenance_of(path).get("description", "")
    if found is None:
        return CheckedSeries(description, None)
    known = {line for line in found - source if any(part in line for part in dciodvfy.NOT_KNOWN_TO_IT)}
    own = tuple(sorted(found - source - known))
    return CheckedSeries(description, own, tuple(sorted(found & source)), len(known))
