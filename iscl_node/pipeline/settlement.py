"""The end of a batch that was sent: delivered, when every destination confirmed it, or quarantine, when one refuses."""

import threading
from collections.abc import Mapping

import structlog

from iscl_node.domain import Batch, Peer
from iscl_node.metrics import Metrics
from iscl_node.store.commitments import Commitments
from iscl_node.store.deliveries import Deliveries
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)


class Settlement:
    """Brings batches that are sent to their end; may be called by several threads at once.

    Parameters
    ----------
    spool : Spool
        Holds the batches.
    deliveries : Deliveries
        What the destinations confirmed.
    commitments : Commitments
        Forgotten with the batch.
    peers : mapping of str to Peer
        Destinations by name.
    metrics : Metrics
        Counts the ends.
    """

    def __init__(
        self,
        spool: Spool,
        deliveries: Deliveries,
        commitments: Commitments,
        peers: Mapping[str, Peer],
        metrics: Metrics,
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._commitments = commitments
        self._peers = peers
        self._metrics = metrics
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Bring everything to its end that can be, and forget what belongs to batches that are there already."""
        self._commitments.forget_all_but(self._spool.batches_under_way())
        for batch in self._spool.sent_batches():
            self.settle(batch)

    def settle(self, batch: Batch) -> None:
        """Bring a batch to its end if it is sent and no destination is still to confirm it.

        Raises
        ------
        OSError
            The disk refuses to move it.
        """
        with self._lock:
            if not self._spool.is_sent(batch):
                return
            destinations = self._deliveries.destinations(batch)
            refusals = [self._refusal(batch, each) for each in destinations]
            if None not in refusals:
                self._end(batch, [each for each in refusals if each] if refusals else [_NOWHERE])

    def _refusal(self, batch: Batch, destination: str) -> str | None:
        """Why a destination will never confirm; empty if it did, or need not; None as long as it is waited for."""
        record = self._deliveries.record(batch, destination)
        if record.is_confirmed or record.refusal:
            return record.refusal
        peer = self._peers.get(destination)
        if peer is None or not peer.may_receive:
            return f"destination {destination!r} is gone from the settings and has not confirmed; requeue the series"
        return "" if peer.confirm == "none" and not record.missing else None

    def _end(self, batch: Batch, refusals: list[str | None]) -> None:
        outcome = "quarantine" if refusals else "done"
        if refusals:
            reason = "; ".join(str(each) for each in dict.fromkeys(refusals))
            self._spool.quarantine(batch, reason)
            _log.warning("batch.quarantined", series_uid=batch.series_instance_uid, batch=batch.key, reason=reason)
        else:
            self._spool.release(batch)
        self._metrics.batches.labels(outcome).inc()
        _log.info("batch.ended", series_uid=batch.series_instance_uid, batch=batch.key, outcome=outcome)


_NOWHERE = "it is not known where this batch was sent; requeue the series"
