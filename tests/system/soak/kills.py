"""Kills of node and archive: at random points of the soak's progress, so that a slow machine sees as many kills."""

import random
import time
from collections.abc import Sequence

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
    nodes, archive
        The victims; of several nodes, which share a spool, one is killed at a time.
    ledger : Ledger
        Tells the progress, and counts.
    """

    def __init__(self, nodes: Sequence[Node], archive: Orthanc, ledger: Ledger) -> None:
        self._nodes = nodes
        self._archive = archive
        self._ledger = ledger
        self.peak_memory_bytes = 0
        """Of a node, over all its lives."""

    def kill_node(self, number: int, dice: random.Random) -> None:
        """Kill a node so often, some times while it starts."""
        moments = _moments(number, dice)
        while moments:
            self._wait_for(moments.pop())
            time.sleep(dice.uniform(0, _JITTER_SECONDS))
            node = dice.choice(self._nodes)
            self._kill_node(node)
            if moments and dice.random() < _KILLED_AT_START:
                moments.pop()
                node.begin()
                time.sleep(dice.uniform(0, _START_SECONDS))
                self._kill_node(node)
            node.start(STALL_SECONDS)

    def _kill_node(self, node: Node) -> None:
        self._note_memory(node)
        node.kill()
        self._ledger.count("kills of the node")

    def note_memory(self) -> None:
        """Look at the peak of each node's memory, which is forgotten with the process."""
        for node in self._nodes:
            self._note_memory(node)

    def _note_memory(self, node: Node) -> None:
        self.peak_memory_bytes = max(self.peak_memory_bytes, node.peak_memory_bytes())

    def kill_archive(self, number: int, dice: random.Random) -> None:
        """Kill the archive so often; it stays down for some seconds."""
        for moment in reversed(_moments(number, dice)):
            self._wait_for(moment)
            self._archive.kill()
            self._ledger.count("kills of the archive")
            time.sleep(dice.uniform(0, _ARCHIVE_DOWN_SECONDS))
            self._archive.start(self._nodes[0].port)

    def _wait_for(self, moment: float) -> None:
        progress = self._ledger.progress
        self._ledger.wait_until(lambda: progress() >= moment, f"{100 * moment:.1f}% of the soak", progress)


def _moments(number: int, dice: random.Random) -> list[float]:
    """At which progress each kill is due; the first is the last of the list."""
    return sorted((dice.uniform(0, _LAST_PROGRESS) for _ in range(number)), reverse=True)
