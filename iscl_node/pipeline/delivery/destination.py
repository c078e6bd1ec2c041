"""What is known of a batch at a destination, from the spool and the settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from iscl_node.domain import Batch, Peer
from iscl_node.store.records.deliveries import Deliveries, DeliveryRecord
from iscl_node.store.spool import Spool


@dataclass(frozen=True)
class Destinations:
    """All destinations.

    Parameters
    ----------
    spool : Spool
        Holds the batches and their outboxes.
    deliveries : Deliveries
        Keeps the records.
    peers : mapping of str to Peer
        Destinations by name.
    """

    spool: Spool
    deliveries: Deliveries
    peers: Mapping[str, Peer]

    def peer(self, name: str) -> Peer | None:
        """A destination that may receive; None if it is gone from the settings."""
        peer = self.peers.get(name)
        return peer if peer is not None and peer.may_receive else None

    def record(self, batch: Batch, name: str) -> DeliveryRecord:
        """What a destination answered so far."""
        return self.deliveries.record(batch, name)

    def lacking(self, batch: Batch, name: str) -> set[str]:
        """The SOP Instance UIDs of what is still to be sent to a destination."""
        record = self.record(batch, name)
        return set(self.spool.derived_instances(batch).keys() - record.stored.keys()) | record.missing

    def has_stored(self, batch: Batch, name: str) -> bool:
        """Whether it stored everything, as far as it is known."""
        return bool(self.record(batch, name).stored) and not self.lacking(batch, name)

    def is_open(self, batch: Batch, name: str) -> bool:
        """Whether a batch is under way, and a destination is waited for."""
        return self.deliveries.is_under_way(batch) and self.end(batch, name) is None

    def end(self, batch: Batch, name: str) -> str | None:
        """Why a destination will never confirm; empty if it did, or need not; None as long as it is waited for."""
        record = self.record(batch, name)
        if record.refusal or (record.is_confirmed and not self.lacking(batch, name)):
            return record.refusal
        peer = self.peer(name)
        if peer is None:
            return gone(name)
        return "" if peer.confirm == "none" and self.has_stored(batch, name) else None


def gone(name: str) -> str:
    """The reason if a destination is not in the settings."""
    return f"destination {name!r} is gone from the settings and has not confirmed; requeue the series"


def query_service(peer: Peer) -> str:
    """By which a destination is asked what it has."""
    return "C-FIND" if peer.web is None else "QIDO-RS"
