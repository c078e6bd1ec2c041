"""Which quiet series are closed, which wait for what is missing, and what happens to those that waited in vain."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import structlog

from iscl_node.domain import CompletenessPolicy, IncompleteSeries, Rule
from iscl_node.metrics import Metrics
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.reception.headers import FactsReader, SeriesFacts
from iscl_node.pipeline.reception.peer_lists import Listing, PeerListings, Question
from iscl_node.store.receiving.open_series import OpenSeries

_log = structlog.get_logger(__name__)

READING_SECONDS = 0.25
"""For headers, each time: half of the pause between two ticks, which comes to some 500 headers."""


@dataclass(frozen=True)
class Closing:
    """A series that is to be closed now, and why.

    ``completeness`` is ``list``: all that the asked peer has is here; ``geometry``: there is no gap; ``quiet``: nothing
    new came, and nothing more could be known or is needed; ``timeout``: it is not complete, ``missing`` says what is
    missing, and ``is_quarantined`` what the rule wants.
    """

    series_instance_uid: str
    completeness: Literal["list", "geometry", "quiet", "timeout"]
    missing: str = ""
    is_quarantined: bool = False


@dataclass
class _Wait:
    """Since when, by the clock that only grows, nothing came after an arrival; and what was logged about it."""

    arrival: float
    since: float
    told: str = ""


class Completeness:
    """Judges quiet series.

    The time-out is measured with a clock that only grows: a jump of the machine's clock neither ends a wait nor makes
    it longer. How long a series was quiet before the node started is taken from the machine's clock.

    Parameters
    ----------
    open_series : OpenSeries
        What is judged.
    rules : sequence of Rule
        The first that matches gives the policy.
    quiet_seconds : float
        For how long nothing came of a series that is judged for the first time.
    listings : PeerListings
        Ask peers, where the policy says so.
    metrics : Metrics
        How many series wait.
    clock : callable
        Seconds that only ever grow.
    headers : KeptHeaders, optional
        What is known of the instances without reading them.
    """

    def __init__(
        self,
        open_series: OpenSeries,
        rules: Sequence[Rule],
        quiet_seconds: float,
        listings: PeerListings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        headers: KeptHeaders | None = None,
    ) -> None:
        self._open_series = open_series
        self._facts = FactsReader(open_series, rules, headers or KeptHeaders(), clock)
        self._quiet_seconds = quiet_seconds
        self._listings = listings
        self._metrics = metrics
        self._clock = clock
        self._waits: dict[str, _Wait] = {}
        self._has_begun = False
        self._told: list[IncompleteSeries] | None = None

    def closings(self, quiet: Sequence[str]) -> list[Closing]:
        """Judge the series that are quiet now; those that are not returned stay open."""
        for uid in {*quiet, *self._waits}:
            self._note_arrival(uid)
        known = self._facts.read([uid for uid in quiet if uid in self._waits], READING_SECONDS)
        closings, incomplete = [], []
        for uid, facts in known.items():
            judged = self._judged(uid, facts)
            if isinstance(judged, Closing):
                closings.append(judged)
            elif judged is not None:
                incomplete.append(judged)
        self._has_begun = True
        self._tell(incomplete)
        return closings

    def forget(self, series_uid: str) -> None:
        """The series is closed."""
        self._facts.forget(series_uid)
        self._listings.forget(series_uid)
        self._waits.pop(series_uid, None)

    def _note_arrival(self, uid: str) -> None:
        arrival = self._open_series.last_arrival(uid)
        if arrival is None:  # closed by a person
            self.forget(uid)
        elif uid not in self._waits or self._waits[uid].arrival != arrival:
            quiet = self._quiet_seconds if self._has_begun else max(0.0, time.time() - arrival)
            self._waits[uid] = _Wait(arrival, self._clock() - quiet)

    def _judged(self, uid: str, facts: SeriesFacts) -> Closing | IncompleteSeries | None:
        """Whether the series is closed or waits; None while that is not known."""
        policy, here = facts.policy, facts.sop_instance_uids
        if policy is None:
            return Closing(uid, "quiet")
        listing = self._listing(uid, facts, policy)
        if listing.sop_instance_uids == here:
            return Closing(uid, "list")
        # A peer that has less than is here may be receiving itself: its list is no proof.
        unreceived = len((listing.sop_instance_uids or frozenset()) - here)
        missing = f"{unreceived} instances that peer {policy.ask!r} has" if unreceived else facts.coverage.where
        if missing:
            return self._waiting(uid, missing, policy)
        if listing.is_pending and not self._is_over(uid, policy):
            return None
        return Closing(uid, "quiet" if facts.coverage.missing is None else "geometry")

    def _listing(self, uid: str, facts: SeriesFacts, policy: CompletenessPolicy) -> Listing:
        if not policy.ask:
            return Listing()
        question = Question(policy.ask, facts.study_instance_uid, uid, policy.fetch)
        return self._listings.listing(question, facts.sop_instance_uids)

    def _is_over(self, uid: str, policy: CompletenessPolicy) -> bool:
        return self._clock() - self._waits[uid].since >= policy.timeout_seconds

    def _waiting(self, uid: str, missing: str, policy: CompletenessPolicy) -> Closing | IncompleteSeries:
        wait, is_over = self._waits[uid], self._is_over(uid, policy)
        if is_over and policy.at_timeout != "wait":
            return Closing(uid, "timeout", missing, policy.at_timeout == "quarantine")
        event = "series.held" if is_over else "series.found_incomplete"
        if wait.told != f"{event} {missing}":
            _log.warning(event, series_uid=uid, missing=missing, at_timeout=policy.at_timeout)
        wait.told = f"{event} {missing}"
        return IncompleteSeries(uid, missing, wait.arrival, is_over)

    def _tell(self, incomplete: list[IncompleteSeries]) -> None:
        held = sum(each.is_held for each in incomplete)
        self._metrics.incomplete_series.labels("held").set(held)
        self._metrics.incomplete_series.labels("waiting").set(len(incomplete) - held)
        if incomplete != self._told:
            with suppress(OSError):  # a full disk: `status` shows what it knew before, until there is room
                self._open_series.note_incomplete(incomplete)
                self._told = incomplete
