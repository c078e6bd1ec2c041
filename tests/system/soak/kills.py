"""Kills of node and archive: at random points of the soak's progress, so that a slow machine sees as many kills."""

import random
import time

from archive import Orthanc
from node import Node

from soak.ledger import STALL_SECONDS, Ledger

_LAST_PROGRESS = 0.97
"""No kill is planned behind this: there must be something left to be killed."""

_JITTER_SECONDS = 1.5
"""Progress stands still while the node is down; this spreads what would come right after its start."""

_START_SECONDS = 5.0
_KILLED_AT_START = 0.2
"""How many of the kills of the node are followed by another one while it starts."""

_ARCHIVE_DOWN_SECONDS = 5.0


class Kills:
    """Kills the node and the archive, each in a thread of its own, and starts them again.

    Parameters
    ----------
    node, archive
        The victims.
    ledger : Ledger
        Tells the progress, and counts.
    """

    def __init__(self, node: Node, archive: Orthanc, ledger: Ledger) -> None:
        self._node = node
        self._archive = archive
        self._ledger = ledger
        self.peak_memory_bytes = 0
        """Of the node, over all its lives."""

    def kill_node(self, number: int, dice: random.Random) -> None:
        """Kill the node so often, some times while it starts."""
        moments = _moments(number, dice)
        while moments:
            self._wait_for(moments.pop())
            time.sleep(dice.uniform(0, _JITTER_SECONDS))
            self._kill_node()
            if moments and dice.random() < _KILLED_AT_START:
                moments.pop()
                self._node.begin()
                time.sleep(dice.uniform(0, _START_SECONDS))
                self._kill_node()
            self._node.start(STALL_SECONDS)

    def _kill_node(self) -> None:
        self.note_memory()
        self._node.kill()
        self._ledger.count("kills of the node")

    def note_memory(self) -> None:
        """Look at the peak of the node's memory, which is forgotten with the process."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, self._node.peak_memory_bytes())

    def kill_archive(self, number: int, dice: random.Random) -> None:
        """Kill the archive so often; it stays down for some seconds."""
        for moment in reversed(_moments(number, dice)):
            self._wait_for(moment)
            self._archive.kill()
            self._ledger.count("kills of the archive")
            time.sleep(dice.uniform(0, _ARCHIVE_DOWN_SECONDS))
            self._archive.start(self._node.port)

    def _wait_for(self, moment: float) -> None:
        progress = self._ledger.progress
        self._ledger.wait_until(lambda: progress() >= moment, f"{100 * moment:.1f}% of the soak", progress)


def _moments(number: int, dice: random.Random) -> list[float]:
    """At which progress each kill is due; the first is the last of the list."""
    return sorted((dice.uniform(0, _LAST_PROGRESS) for _ in range(number)), reverse=True)
