"""What a peer has of a series, and having it sent what is missing here; without anybody waiting for the peer.

Each peer is asked by at most one thread at a time, and fetched from by at most one other. A peer that does not answer
is left alone for a while, for all series: until then nothing is known of what it has.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from iscl_node.domain import Peer
from iscl_node.errors import text_of
from iscl_node.retry import Backoff

_log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 5.0
LAST_PAUSE_SECONDS = 900.0
"""The pause before a peer is asked again doubles from the first to the last: about a series of which it has what is
missing here, and about anything after it did not answer."""
_PAUSES = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)

Find = Callable[[Peer, str, str], frozenset[str]]
"""Returns the SOP Instance UIDs that a peer has, by Study and Series Instance UID; raises IsclNodeError."""


class Moved(Protocol):
    """How many instances a peer says it sent, and did not."""

    @property
    def completed(self) -> int:
        """Sent."""

    @property
    def failed(self) -> int:
        """Not sent."""


Move = Callable[[Peer, str, str, Sequence[str]], Moved]
"""Has a peer send instances to us; raises IsclNodeError."""


@dataclass(frozen=True)
class Question:
    """Which peer is asked about which series, and whether what is missing here is fetched from it."""

    peer: str
    study_instance_uid: str
    series_instance_uid: str
    fetch: bool


@dataclass(frozen=True)
class Listing:
    """The SOP Instance UIDs that the peer has; None if that is not known, while ``is_pending`` not yet."""

    sop_instance_uids: frozenset[str] | None = None
    is_pending: bool = False


class _Pauses:
    """When something may be tried again."""

    def __init__(self) -> None:
        self._tries = 0
        self._end = 0.0

    def begin(self, now: float) -> None:
        self._end = now + _PAUSES.wait_seconds(self._tries)
        self._tries += 1

    def is_over(self, now: float) -> bool:
        return now >= self._end


class _Case:
    """What is known of a series at the peer, and when it is asked and fetched from again."""

    def __init__(self) -> None:
        self.listed: frozenset[str] | None = None
        self.asking = _Pauses()
        self.fetching = _Pauses()


class PeerListings:
    """Asks peers about series that are quiet and not known to be complete.

    Parameters
    ----------
    peers : mapping of str to Peer
        By name.
    find, move : callable
        See :data:`Find` and :data:`Move`.
    clock : callable
        Seconds that only ever grow.
    """

    def __init__(
        self, peers: Mapping[str, Peer], find: Find, move: Move, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._peers = peers
        self._find = find
        self._move = move
        self._clock = clock
        self._lock = threading.Lock()
        self._cases: dict[str, _Case] = {}
        self._absent: dict[str, _Pauses] = {}
        self._busy: set[tuple[str, str]] = set()

    def listing(self, question: Question, here: frozenset[str]) -> Listing:
        """What the peer has as far as it is known now; where that is not what is here, work on it begins or goes on.

        Parameters
        ----------
        question : Question
            What is to be known.
        here : frozenset of str
            The SOP Instance UIDs that are here.
        """
        with self._lock:
            case = self._cases.setdefault(question.series_instance_uid, _Case())
            if case.listed == here:
                return Listing(case.listed)
            answers = self._is_answering(question.peer)
            if answers and case.asking.is_over(self._clock()):
                self._begin("find", question, partial(self._ask, question, case))
            missing = (case.listed or frozenset()) - here
            if question.fetch and missing and answers and case.fetching.is_over(self._clock()):
                self._begin("move", question, partial(self._fetch, question, case, sorted(missing)))
            return Listing(case.listed, is_pending=case.listed is None and answers)

    def forget(self, series_uid: str) -> None:
        """The series is closed."""
        with self._lock:
            self._cases.pop(series_uid, None)

    def _is_answering(self, peer: str) -> bool:
        return peer not in self._absent or self._absent[peer].is_over(self._clock())

    def _begin(self, act: str, question: Question, work: Callable[[], None]) -> None:
        key = act, question.peer
        if key in self._busy:
            return
        self._busy.add(key)
        name = f"{act} {question.peer}"
        threading.Thread(target=self._done, args=(key, question, work), name=name, daemon=True).start()

    def _done(self, key: tuple[str, str], question: Question, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - any error ends this thread, and the peer is asked again
            uid = question.series_instance_uid
            _log.warning("peer.query_failed", peer=question.peer, act=key[0], series_uid=uid, fault=text_of(error))
        finally:
            with self._lock:
                self._busy.discard(key)

    def _ask(self, question: Question, case: _Case) -> None:
        """Ask; a peer that does not answer is absent until it does, or until its pause is over."""
        uid = question.series_instance_uid
        listed = None
        try:
            listed = self._find(self._peers[question.peer], question.study_instance_uid, uid)
        finally:
            with self._lock:
                self._note_answer(question.peer, listed is not None)
        with self._lock:
            case.listed = listed
            case.asking.begin(self._clock())
        _log.info("peer.asked", peer=question.peer, series_uid=uid, instances=len(listed))

    def _note_answer(self, peer: str, is_answering: bool) -> None:
        if is_answering:
            self._absent.pop(peer, None)
        else:
            self._absent.setdefault(peer, _Pauses()).begin(self._clock())

    def _fetch(self, question: Question, case: _Case, missing: Sequence[str]) -> None:
        try:
            moved = self._move(
                self._peers[question.peer], question.study_instance_uid, question.series_instance_uid, missing
            )
        finally:
            with self._lock:
                case.fetching.begin(self._clock())
        _log.info(
            "peer.fetched_from",
            peer=question.peer,
            series_uid=question.series_instance_uid,
            asked=len(missing),
            completed=moved.completed,
            failed=moved.failed,
        )
