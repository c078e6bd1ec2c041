"""What the spool does, act by act, to be disturbed in the middle."""

import contextlib
from collections.abc import Callable
from datetime import timedelta

from spool_contents import NOW, SERIES, header, part10

from iscl_node.domain import Batch
from iscl_node.store.spool import Spool

Act = Callable[[Spool], object]

BATCH = Batch(SERIES, "20261122T235959.123456Z")


def _closed_batch(spool: Spool, incomplete: str = "") -> None:
    spool.store(header(), part10(b"a"))
    spool.close(SERIES, NOW, incomplete)


def _batch_in_quarantine(spool: Spool, incomplete: str = "") -> None:
    _closed_batch(spool, incomplete)
    spool.quarantine(BATCH, "why")


def _close(spool: Spool, incomplete: str = "") -> None:
    with contextlib.suppress(FileNotFoundError):  # closed at the first try, of which only the sync failed
        spool.close(SERIES, NOW, incomplete)


ACTS: dict[str, tuple[Act, Act]] = {
    "a new series": (lambda spool: None, lambda spool: spool.store(header(), part10(b"a"))),
    "a new instance": (
        lambda spool: spool.store(header(), part10(b"a")),
        lambda spool: spool.store(header("1.2.3.2"), part10(b"b")),
    ),
    "a conflict": (
        lambda spool: spool.store(header(), part10(b"a")),
        lambda spool: spool.store(header(), part10(b"b")),
    ),
    "close": (lambda spool: spool.store(header(), part10(b"a")), _close),
    "close incomplete": (
        lambda spool: spool.store(header(), part10(b"a")),
        lambda spool: _close(spool, "a slice is missing"),
    ),
    "requeue incomplete": (
        lambda spool: _batch_in_quarantine(spool, "a slice is missing"),
        lambda spool: spool.requeue(SERIES, NOW + timedelta(days=1)),
    ),
    "write_derived": (_closed_batch, lambda spool: spool.write_derived(BATCH, "2.25.1", "2.25.2", b"derived")),
    "release": (_closed_batch, lambda spool: spool.release(BATCH)),
    "quarantine": (_closed_batch, lambda spool: spool.quarantine(BATCH, "why")),
    "requeue": (_batch_in_quarantine, lambda spool: spool.requeue(SERIES, NOW + timedelta(days=1))),
}
"""What each act of the spool finds, and the act."""


def contents(spool: Spool) -> list[tuple[str, bytes]]:
    """Every instance with the place where it lies."""
    return sorted((str(path.relative_to(spool.root)), path.read_bytes()) for path in spool.root.rglob("*.dcm"))
