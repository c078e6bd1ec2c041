"""Sends what a destination has not stored yet."""

from collections.abc import Callable, Sequence
from pathlib import Path

from iscl_node.domain import Batch, Peer, StoreAnswer
from iscl_node.errors import QuarantineSeriesError, RetryLaterError
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.disk_refusals import disk_refusals_retried
from iscl_node.store.records.answer_log import recorded

SendFiles = Callable[[Peer, Sequence[Path], Callable[[StoreAnswer], object]], None]
"""Sends files over one association and reports each answer; raises RetryLaterError or QuarantineSeriesError."""


class Sending:
    """The step that sends.

    Parameters
    ----------
    destinations : Destinations
        What they have.
    send_files : callable
        See :data:`SendFiles`.
    deadline : Deadline
        When to give up.
    """

    def __init__(self, destinations: Destinations, send_files: SendFiles, deadline: Deadline) -> None:
        self._destinations = destinations
        self._spool, self._deliveries = destinations.spool, destinations.deliveries
        self._send_files = send_files
        self._deadline = deadline

    def send(self, batch: Batch, peer_name: str) -> None:
        """Send what one destination has not stored yet, series by series, so that who refuses evidence has the images.

        A batch that has come to its end is left alone.

        Raises
        ------
        RetryLaterError
            If the destination does not take them now.
        QuarantineSeriesError
            If it never will or is gone from the settings, or the instances are not as many as were made.
        """
        if not self._deliveries.is_under_way(batch):
            return
        peer = self._destinations.peer(peer_name)
        if peer is None:
            raise QuarantineSeriesError(
                f"destination {peer_name!r} is gone from the settings; requeue the series to choose anew"
            )
        made = self._deliveries.made(batch)
        for series_uid, count in made:
            self._send_series(batch, peer, series_uid, count)
        for series_uid in sorted(set(self._spool.derived_instances(batch).values()) - {uid for uid, _ in made}):
            self._send_series(batch, peer, series_uid)
        if not self._destinations.has_stored(batch, peer_name) and self._deliveries.is_under_way(batch):
            raise QuarantineSeriesError(f"peer {peer_name} lacks instances that are gone from the outbox, too")

    def _send_series(self, batch: Batch, peer: Peer, series_uid: str, count: int | None = None) -> None:
        stored = self._destinations.record(batch, peer.name).stored
        files = self._spool.derived(batch, series_uid)
        left = [path for path in files if path.stem not in stored]
        if count is not None and len(files) != count and self._deliveries.is_under_way(batch):
            raise QuarantineSeriesError(f"{count} instances should be sent, but {len(files)} are in the outbox")
        if left:
            self._send_recorded(batch, peer, left)

    def _send_recorded(self, batch: Batch, peer: Peer, files: Sequence[Path]) -> None:
        """Send over one association, and record every answer durably, however it ends."""
        try:
            with disk_refusals_retried(), recorded(self._deliveries, batch, peer.name) as answered:
                self._send_files(peer, files, answered)
        except RetryLaterError as error:
            end = self._deadline.end(batch, str(error))
            if end:
                raise QuarantineSeriesError(end) from error
            raise
