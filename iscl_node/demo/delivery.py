"""Waits for the derived series to be in the archive, and notices when it will not come."""

import time

from iscl_node.demo.archive import Archive
from iscl_node.demo.narrator import Narrator
from iscl_node.demo.node import RunningNode, Work

_STALLED_SECONDS = 180
"""With no derived instance made and none arrived for this long, none will come."""
_POLL_SECONDS = 0.5


def wait_for_delivery(
    node: RunningNode, archive: Archive, count: int, narrator: Narrator, stalled_seconds: float = _STALLED_SECONDS
) -> Work:
    """Wait until the archive has ``count`` instances.

    Returns
    -------
    Work
        What the node did.

    Raises
    ------
    DemoError
        If the node ends, puts the series into quarantine, or makes no progress; with the end of its log.
    """
    last, last_change = (0, 0), time.monotonic()
    work = Work(0, 0.0, 0)
    while True:
        work = node.work() or work
        arrived = archive.count()
        if arrived >= count:
            return node.work() or work
        if work.quarantined:
            raise node.failure("the node put the series into quarantine and sent nothing")
        narrator.progress(f"the node denoises: {work.derived} of {count} slices; {arrived} arrived at the archive")
        if (work.derived, arrived) != last:
            last, last_change = (work.derived, arrived), time.monotonic()
        if time.monotonic() - last_change > stalled_seconds:
            made = f"{work.derived} derived, {arrived} arrived"
            raise node.failure(f"nothing happened for {stalled_seconds:.0f} s: of {count} slices {made}")
        time.sleep(_POLL_SECONDS)
