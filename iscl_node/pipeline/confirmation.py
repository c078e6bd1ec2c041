"""Asks a destination, for every batch that it stored, whether it keeps it, until it says so."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from iscl_node.domain import Batch, Peer, SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.answers import ServiceRefusedError
from iscl_node.network.association import NothingAcceptedError
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.inquiry import QUERY, Answer, Inquiry
from iscl_node.pipeline.patience import Patience
from iscl_node.pipeline.settlement import Settlement
from iscl_node.store.deliveries import Deliveries, DeliveryRecord
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)

_LOOKS = 3
"""How often C-FIND must miss an instance before it is sent again: many archives list what they stored a while later."""

_NO_SERVICE = 'a destination without such a service needs confirm = "none"'

SendAgain = Callable[[Batch, str, int], None]
"""Has a destination be sent what it lacks, durably; done already in the same round, nothing happens."""


@dataclass(frozen=True)
class Pace:
    """How long to wait between tries: twice as long each time, from the first to the last."""

    first_seconds: float
    last_seconds: float

    def wait_seconds(self, tries: int) -> float:
        """The wait before the next of ``tries`` further tries."""
        return min(self.first_seconds * 2.0 ** min(tries, 60), self.last_seconds)


@dataclass
class _Watch:
    """What is remembered of a batch between two looks; all of it may be forgotten. Times are monotonic, in seconds."""

    state: SeriesState
    due: float = -math.inf
    tries: int = 0
    misses: int = 0
    is_stored: bool = False
    round_sent: int = -1


class Confirmation:
    """The chore for one destination.

    Parameters
    ----------
    peer : Peer
        The destination.
    spool : Spool
        Has the batches.
    deliveries : Deliveries
        Keeps what is known of them.
    inquiry : Inquiry
        Asks the destination.
    settlement : Settlement
        Is told of each batch that the destination confirmed or refuses.
    send_again : callable
        See :data:`SendAgain`.
    pace : Pace
        Of the tries.
    metrics : Metrics
        Counts the answers.
    shutdown : Shutdown
        Asked between two batches.
    patience : Patience
        When to give up.
    """

    def __init__(
        self,
        peer: Peer,
        spool: Spool,
        deliveries: Deliveries,
        inquiry: Inquiry,
        settlement: Settlement,
        send_again: SendAgain,
        pace: Pace,
        metrics: Metrics,
        shutdown: Shutdown,
        patience: Patience,
    ) -> None:
        self._peer = peer
        self._spool = spool
        self._deliveries = deliveries
        self._inquiry = inquiry
        self._settlement = settlement
        self._send_again = send_again
        self._pace = pace
        self._metrics = metrics
        metrics.resent_instances.labels(peer.name)  # 0: of a counter that begins with 1 no alert sees the increase
        self._shutdown = shutdown
        self._patience = patience
        self._watches: dict[Batch, _Watch] = {}
        self._silent_until = -math.inf
        self._failures = 0
        self._reason = ""

    def tick(self) -> None:
        """Look after every batch whose time has come.

        Raises
        ------
        OSError
            The disk refuses something; that batch is put off, and the others are looked after at the next tick.
        """
        states = dict.fromkeys(self._spool.closed_batches(), SeriesState.CLOSED)
        states |= dict.fromkeys(self._spool.sent_batches(), SeriesState.SENT)
        self._watches = {batch: self._watch(batch, state) for batch, state in states.items()}
        for batch, watch in sorted(self._watches.items(), key=lambda pair: pair[1].due):
            if self._shutdown.requested:
                return
            now = time.monotonic()
            if watch.due <= now and not (watch.is_stored and now < self._silent_until):
                watch.due = now + self._pace.first_seconds
                with suppress(FileNotFoundError):  # it moved on meanwhile
                    self._look(batch, watch)

    def _watch(self, batch: Batch, state: SeriesState) -> _Watch:
        watch = self._watches.get(batch)
        return watch if watch is not None and watch.state is state else _Watch(state)

    def _look(self, batch: Batch, watch: _Watch) -> None:
        if self._peer.name not in self._deliveries.destinations(batch):
            return
        record = self._deliveries.record(batch, self._peer.name)
        need_not_confirm = self._peer.confirm == "none" and not record.missing
        if record.is_confirmed or record.refusal or need_not_confirm:
            self._settlement.settle(batch)
            watch.due = math.inf
        elif not record.stored or self._spool.derived_instances(batch).keys() - record.stored.keys():
            watch.is_stored = False
            if record.missing or watch.state is SeriesState.SENT:
                self._begin_round(batch, watch, record)
        else:
            watch.is_stored = True
            self._ask(batch, watch, record)

    def _begin_round(self, batch: Batch, watch: _Watch, record: DeliveryRecord) -> None:
        if watch.round_sent != record.rounds:
            self._send_again(batch, self._peer.name, record.rounds)
            watch.round_sent = record.rounds

    def _ask(self, batch: Batch, watch: _Watch, record: DeliveryRecord) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            answer = self._inquiry.ask(batch, record)
        except RetryLaterError as error:
            self._put_off(watch, error)
            self._give_up(batch, watch, str(error))
            return
        self._silent_until, self._failures, self._reason = -math.inf, 0, ""
        if answer is not None:
            self._take(batch, watch, record, answer)

    def _put_off(self, watch: _Watch, error: RetryLaterError) -> None:
        """Leave the destination alone for a while; the batch for longer, so that others have their turn before it."""
        now = time.monotonic()
        self._silent_until = now + self._pace.wait_seconds(self._failures)
        self._failures += 1
        watch.tries += 1
        watch.due = now + self._pace.wait_seconds(watch.tries)
        if str(error) != self._reason:  # once, not every time
            hint = _NO_SERVICE if isinstance(error, NothingAcceptedError | ServiceRefusedError) else ""
            _log.warning("confirmation.put_off", peer=self._peer.name, reason=str(error), hint=hint)
        self._reason = str(error)

    def _give_up(self, batch: Batch, watch: _Watch, reason: str) -> None:
        """Refuse the batch in the destination's place, if this has gone on for too long."""
        end = self._patience.end(batch, reason)
        if end:
            self._deliveries.note_refusal(batch, self._peer.name, end)
            watch.is_stored, watch.due = False, -math.inf

    def _take(self, batch: Batch, watch: _Watch, record: DeliveryRecord, answer: Answer) -> None:
        log = _log.bind(series_uid=batch.series_instance_uid, batch=batch.key, peer=self._peer.name, way=answer.way)
        if answer.refusal:
            outcome = "refused"
            self._deliveries.note_refusal(batch, self._peer.name, answer.refusal)
            log.warning("confirmation.refused", reason=answer.refusal)
        elif not answer.lacking:
            outcome = "confirmed"
            self._deliveries.note_confirmed(batch, self._peer.name, answer.way, answer.transaction_uid)
            log.info("confirmation.confirmed", instances=len(record.stored))
        elif answer.way == QUERY and watch.misses < _LOOKS - 1:
            outcome = "not yet"
            watch.misses += 1
            watch.due = time.monotonic() + self._pace.wait_seconds(watch.misses)
        else:
            outcome = "missing"
            watch.misses = 0
            self._deliveries.note_missing(batch, self._peer.name, answer.lacking)
            self._metrics.resent_instances.labels(self._peer.name).inc(len(answer.lacking))
            watch.due = time.monotonic() + self._pace.wait_seconds(record.rounds)
            reasons = sorted(set(answer.lacking.values()))
            log.warning("confirmation.missing", instances=len(answer.lacking), reasons=reasons)
            lost = f"peer {self._peer.name} stored {len(answer.lacking)} instances and has lost them"
            self._give_up(batch, watch, lost)
        self._metrics.confirmations.labels(self._peer.name, answer.way, outcome).inc()
        if outcome in ("refused", "confirmed"):
            watch.due = -math.inf  # for the next look, which settles
