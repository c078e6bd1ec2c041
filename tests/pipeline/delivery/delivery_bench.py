"""A spool, the workflows of some archives, and a clock that stands still until it is moved."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from factories import CT_IMAGE, ROOT, ct_dataset, part10
from simulated_engine import BACKOFF, Clock, PutOff, SimulatedEngine

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Batch, CommitmentReport, Confirm, InstanceReference, Peer, SeriesState, StoreAnswer
from iscl_node.errors import QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NoAssociationError, NothingAcceptedError
from iscl_node.pipeline.delivery.ask import Asking
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.delivery.send import Sending
from iscl_node.pipeline.workflows.batch import SeriesWorkflow
from iscl_node.pipeline.workflows.commitment_reports import CommitmentReports
from iscl_node.pipeline.workflows.reconcile import Reconcile
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

A_DAY = 86_400.0
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
UIDS = ("2.25.1", "2.25.2", "2.25.3")
SERIES = "2.25.10"


@dataclass
class Archive:
    """A destination in its mood."""

    name: str = "pacs"
    confirm: Confirm = "auto"
    offers: set[str] = field(default_factory=lambda: {"commitment", "query"})
    refuses: set[str] = field(default_factory=set)
    hangs: set[str] = field(default_factory=set)
    may_receive: bool = True
    keeps: set[str] = field(default_factory=lambda: set(UIDS))
    reports_at_once: bool = True
    failure_reason: int = 0x0112
    is_down: bool = False
    transactions: list[str] = field(default_factory=list)
    queries: int = 0
    stored: list[str] = field(default_factory=list)
    stored_at: list[float] = field(default_factory=list)
    takes: int = 1_000_000
    tells: Callable[[], object] = lambda: None
    minds: str = ""
    """It refuses or hangs only at questions about this instance, if any."""

    def store(self, files: Sequence[Path], answered: Callable[[StoreAnswer], object]) -> None:
        if self.is_down:
            raise RetryLaterError("no connection")
        if "store" in self.refuses:
            raise QuarantineSeriesError("no room for this")
        for path in files:
            if self.takes == 0:
                raise RetryLaterError("full")
            self.takes -= 1
            self.stored.append(path.stem)
            answered(StoreAnswer(InstanceReference(CT_IMAGE, path.stem), 0x0000, True))

    def commit(
        self, _peer: Peer, transaction_uid: str, instances: Sequence[InstanceReference]
    ) -> CommitmentReport | None:
        self._answer("commitment", [each.sop_instance_uid for each in instances])
        self.transactions.append(transaction_uid)
        assert {each.sop_class_uid for each in instances} == {CT_IMAGE}
        self.tells()
        return self.report(transaction_uid) if self.reports_at_once else None

    def report(self, transaction_uid: str) -> CommitmentReport:
        failed = dict.fromkeys(set(UIDS) - self.keeps, self.failure_reason)
        return CommitmentReport(transaction_uid, frozenset(self.keeps), failed)

    def find(self, _peer: Peer, study_uid: str, series_uid: str, sent: Collection[str]) -> frozenset[str]:
        self._answer("query", sent)
        self.queries += 1
        assert (study_uid, series_uid) == (f"{ROOT}.1", SERIES)
        return frozenset(self.keeps)

    def _answer(self, service: str, sop_uids: Collection[str]) -> None:
        minds = not self.minds or self.minds in sop_uids
        if self.is_down:
            raise NoAssociationError("no connection")
        if service in self.hangs and minds:
            raise RetryLaterError("no answer")
        if service not in self.offers:
            raise NothingAcceptedError("accepts nothing")
        if service in self.refuses and minds:
            raise ServiceRefusedError("status 0211")


class OneTry:
    """A step is tried once; the simulated engine has it tried again."""

    def tried(self, _name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def tried(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except RetryLaterError as error:
                raise PutOff(str(error)) from error

        return tried


class MakingSteps:
    """What makes the derived instances, without a model."""

    def __init__(self, spool: Spool, names: list[str]) -> None:
        self._spool, self._names = spool, names
        self.calls: list[str] = []

    def making(self, _batch: Batch) -> AbstractContextManager[None]:
        return nullcontext()

    def check(self, _batch: Batch) -> tuple[str, list[str], list[str]]:
        self.calls.append("check")
        return "all", [SERIES], ["1.dcm"]

    def planned(self, _batch: Batch) -> tuple[str, list[str], list[str]]:
        return "all", [SERIES], ["1.dcm"]

    def when(self, *_: object) -> tuple[int, float]:
        return 2, 0.0

    def derive(self, batch: Batch, *_: object) -> None:
        for uid in UIDS:
            derived = part10(ct_dataset(SeriesInstanceUID=SERIES, SOPInstanceUID=uid))
            self._spool.write_derived(batch, SERIES, uid, derived)

    def judge(self, *_: object) -> list[tuple[str, int]]:
        return []

    def destinations(self, batch: Batch, *_: object) -> tuple[str, ...]:
        deliveries = Deliveries(self._spool.root)
        if not deliveries.destinations(batch):
            deliveries.begin(batch, self._names, 0.0, [(SERIES, len(UIDS))])
        return deliveries.destinations(batch)

    def quarantine(self, batch: Batch, reason: str) -> None:
        self._spool.quarantine(batch, reason)


class Bench:
    """A spool, the workflows of some archives, and a clock that stands still until it is moved."""

    give_up_seconds = 0.0
    leads = True

    def __init__(self, spool: Spool, metrics: Metrics, engine: SimulatedEngine, *archives: Archive) -> None:
        self.spool, self.metrics, self.engine = spool, metrics, engine
        self.clock: Clock = engine.clock
        self.archives = {each.name: each for each in archives}
        self.steps = MakingSteps(spool, list(self.archives))
        self.restart()

    def restart(self) -> None:
        """As a node does that was killed: all that is known is in the spool and in the engine."""
        self.deliveries = Deliveries(self.spool.root)
        self.peers = {
            each.name: Peer(
                each.name, each.name.upper(), "127.0.0.1", 104, may_receive=each.may_receive, confirm=each.confirm
            )
            for each in self.archives.values()
        }
        destinations = Destinations(self.spool, self.deliveries, self.peers)
        deadline = Deadline(self.deliveries, self.clock.time, self.give_up_seconds)
        self.concluding_parts = destinations, deadline, BACKOFF, A_DAY, self.metrics
        self.concluding = Concluding(*self.concluding_parts)
        self.sending = Sending(destinations, self._send, deadline)
        self.asking = Asking(destinations, self._commit, self._find, deadline, A_DAY)
        parts: Any = (self.steps, self.sending, self.asking, self.concluding, OneTry())
        self.workflow = SeriesWorkflow(*parts, self.metrics)
        self.engine.instance = self.workflow
        reports = CommitmentReports(self.peers)
        reports.conclude_late = self.workflow.conclude_late
        self.reports = reports.keep
        idle: Any = SimpleNamespace(resume=lambda: 0)
        longest = A_DAY + 60
        made = Reconcile(destinations, self.workflow, self.concluding, idle, self.metrics, longest, lambda: self.leads)
        self.reconcile, self.begin = made.reconcile, made.begin

    def _send(self, peer: Peer, files: Sequence[Path], answered: Callable[[StoreAnswer], object]) -> None:
        self.archives[peer.name].stored_at.append(self.clock.now)
        self.archives[peer.name].store(files, answered)

    def _commit(self, peer: Peer, *arguments: Any) -> CommitmentReport | None:
        return self.archives[peer.name].commit(peer, *arguments)

    def _find(self, peer: Peer, *arguments: Any) -> frozenset[str]:
        return self.archives[peer.name].find(peer, *arguments)

    def tick(self, seconds: float = 0, times: int = 1) -> None:
        for _ in range(times):
            self.clock.now += seconds
            self.reconcile()
            self.engine.run_due()

    def until(self, condition: Callable[[], object], seconds: float = 5) -> None:
        """Let time pass until it is so."""
        end = self.clock.now + 10 * A_DAY
        while not condition():
            assert self.clock.now < end
            self.tick(seconds)

    def closed(self, number: int = 0) -> Batch:
        """A batch of which nothing is made yet."""
        data = part10(ct_dataset(SeriesInstanceUID=f"{ROOT}.2.{number}", SOPInstanceUID=f"{ROOT}.3.{number}.1"))
        header = read_header(data)
        self.spool.store(header, data)
        return self.spool.close(header.series_instance_uid, NOON + timedelta(hours=number))

    def batch(self, *stored_by: str, state: SeriesState = SeriesState.SENT, number: int = 0) -> Batch:
        """A batch of an earlier release, whose derived instances all, or some, of the archives stored."""
        batch = self.closed(number)
        self.steps.derive(batch)
        self.deliveries.begin(batch, list(self.archives), self.clock.time())
        for name in stored_by or self.archives:
            self.store(batch, name, UIDS)
        if state is SeriesState.SENT:
            self.spool.mark_sent(batch)
        return batch

    def store(self, batch: Batch, name: str, uids: Sequence[str]) -> None:
        """What is written down when a destination stored instances."""
        answers = [StoreAnswer(InstanceReference(CT_IMAGE, uid), 0x0000, True) for uid in uids]
        self.deliveries.note_answers(batch, name, answers)

    def states(self) -> Mapping[str, int]:
        return {state.value: count for state, count in self.spool.counts().items() if count}

    def count(self, peer: str, way: str, outcome: str) -> float:
        labels = {"peer": peer, "way": way, "outcome": outcome}
        return self.metrics.registry.get_sample_value("iscl_node_confirmations_total", labels) or 0.0
