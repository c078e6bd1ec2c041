"""What a peer has of a series (C-FIND), and to have it sent (C-MOVE): scripted peers, and DCMTK's dcmqrscp."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import association as pynetdicom_association
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_MOVE
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)
from scripted_peers import ScriptedStorageScp, running, verification_only, wait_until

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.scu import association, query
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NothingAcceptedError
from iscl_node.network.scu.query import MoveResult, find_instances, move_instances

STUDY, SERIES = "2.25.100", "2.25.200"
UIDS = [f"2.25.{number}" for number in (1, 2, 3)]
PATIENCE_SECONDS = 15.0
PENDING = 0xFF00


def instance(uid: str, series: str = SERIES) -> Dataset:
    answer = Dataset()
    answer.QueryRetrieveLevel = "IMAGE"
    answer.StudyInstanceUID, answer.SeriesInstanceUID, answer.SOPInstanceUID = STUDY, series, uid
    return answer


class ScriptedQueryScp(ScriptedStorageScp):
    """Answers each C-FIND with the same answers."""

    def __init__(self, answers: Sequence[tuple[int, Dataset | None]], react: Callable[[Event], None] = id) -> None:
        super().__init__([])
        self.answers = answers
        self.react = react
        self.queries: list[Dataset] = []

    def _on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        self.queries.append(event.identifier)
        self.react(event)
        yield from self.answers

    def handlers(self) -> list[tuple]:
        return [*super().handlers(), (evt.EVT_C_FIND, self._on_find)]


class ScriptedMoveScp(ScriptedStorageScp):
    """Answers each C-MOVE with the next of a script of statuses and counts, without sending anything."""

    def __init__(self, answers: Sequence[tuple[int, dict[str, int]]], seconds: float = 0.0) -> None:
        super().__init__([])
        self.seconds = seconds
        self.answers = list(answers)
        self.queries: list[Dataset] = []
        self.destinations: list[str] = []

    def _on_received(self, event: Event) -> None:
        if event.message.command_set.CommandField == 0x0021:
            self.destinations.append(str(event.message.command_set.MoveDestination).strip())

    def _on_move(self, event: Event) -> Iterator[object]:
        self.queries.append(event.identifier)
        status, counts = self.answers.pop(0)
        time.sleep(self.seconds)
        response = C_MOVE()
        response.MessageIDBeingRespondedTo = event.request.MessageID
        response.AffectedSOPClassUID = StudyRootQueryRetrieveInformationModelMove
        response.Status = status
        for keyword, value in counts.items():
            setattr(response, f"NumberOf{keyword}Suboperations", value)
        dimse = event.assoc.dimse
        send = dimse.send_msg
        send(response, event.context.context_id)

        def swallow(*_message: object) -> None:
            dimse.send_msg = send

        dimse.send_msg = swallow  # pynetdicom's own answer
        yield None, None

    def handlers(self) -> list[tuple]:
        return [
            *super().handlers(),
            (evt.EVT_C_MOVE, self._on_move),
            (evt.EVT_DIMSE_RECV, self._on_received),
        ]


class LimitedQueryScp(ScriptedStorageScp):
    """Has some instances, and answers no more than a number of them to one C-FIND, which ends with a status then."""

    def __init__(self, kept: Sequence[str], limit: int, status: int) -> None:
        super().__init__([])
        self.kept, self.limit, self.status = kept, limit, status
        self.asked: list[list[str]] = []

    def _on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        value = event.identifier.SOPInstanceUID
        asked = [] if not value else [value] if isinstance(value, str) else list(value)
        self.asked.append(asked)
        for number, uid in enumerate(uid for uid in self.kept if not asked or uid in asked):
            if number == self.limit:
                yield self.status, None
                return
            yield PENDING, instance(uid)

    def handlers(self) -> list[tuple]:
        return [*super().handlers(), (evt.EVT_C_FIND, self._on_find)]


def running_finder(scp: ScriptedStorageScp) -> Iterator[Peer]:
    return running(scp, [StudyRootQueryRetrieveInformationModelFind], [ExplicitVRLittleEndian])


def running_mover(scp: ScriptedMoveScp) -> Iterator[Peer]:
    return running(scp, [StudyRootQueryRetrieveInformationModelMove], [ExplicitVRLittleEndian])


def find(peer: Peer) -> frozenset[str]:
    return find_instances(peer, "ISCL_NODE", STUDY, SERIES)


def test_the_instances_of_a_series_are_found() -> None:
    scp = ScriptedQueryScp([(PENDING, instance(uid)) for uid in UIDS] + [(0x0000, None)])
    with running_finder(scp) as peer:
        assert find(peer) == frozenset(UIDS)
        wait_until(lambda: scp.ends == ["released"])
    (asked,) = scp.queries
    assert asked.QueryRetrieveLevel == "IMAGE"
    assert (asked.StudyInstanceUID, asked.SeriesInstanceUID, asked.SOPInstanceUID) == (STUDY, SERIES, "")


def test_a_peer_may_have_none() -> None:
    with running_finder(ScriptedQueryScp([])) as peer:
        assert find(peer) == frozenset()


def test_a_key_that_was_not_matched_against_changes_nothing() -> None:
    with running_finder(ScriptedQueryScp([(0xFF01, instance(UIDS[0]))])) as peer:
        assert find(peer) == {UIDS[0]}


@pytest.mark.fault(
    "delivery",
    "a destination answers a query for one series with instances of another",
    "they count for nothing",
)
def test_answers_of_other_series_are_ignored() -> None:
    answers = [(PENDING, instance(UIDS[0])), (PENDING, instance(UIDS[1], series="2.25.201"))]
    with running_finder(ScriptedQueryScp(answers)) as peer:
        assert find(peer) == {UIDS[0]}


def test_an_answer_without_its_series_is_of_the_one_that_was_asked_for() -> None:
    answer = instance(UIDS[0])
    del answer.SeriesInstanceUID
    with running_finder(ScriptedQueryScp([(PENDING, answer)])) as peer:
        assert find(peer) == {UIDS[0]}


def test_an_answer_without_its_instance_is_an_error_and_not_a_part_of_the_series() -> None:
    answer = instance(UIDS[0])
    del answer.SOPInstanceUID
    with (
        running_finder(ScriptedQueryScp([(PENDING, answer)])) as peer,
        pytest.raises(RetryLaterError, match=r"broke its rules \(AttributeError\)"),
    ):
        find(peer)


@pytest.mark.fault(
    "delivery",
    "the answer to a C-FIND holds a data set that cannot be decoded",
    "the association is ended, tried again",
)
def test_an_answer_that_cannot_be_decoded_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """pynetdicom holds a lock while it hands such an answer on, and whoever aborts then would wait for ever."""

    def undecodable(*_: object) -> Dataset:
        raise ValueError("no data set")

    outcome: list[Exception] = []

    def ask(peer: Peer) -> None:
        try:
            find(peer)
        except RetryLaterError as error:
            outcome.append(error)

    with running_finder(ScriptedQueryScp([(PENDING, instance(UIDS[0]))])) as peer:
        monkeypatch.setattr(pynetdicom_association, "decode", undecodable)
        thread = threading.Thread(target=ask, args=(peer,), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert "cannot be read" in str(outcome[0])


@pytest.mark.parametrize("status", [0xA700, 0x0110, 0xFE00])
def test_a_peer_that_cannot_answer_now_is_asked_again(status: int) -> None:
    with (
        running_finder(ScriptedQueryScp([(PENDING, instance(UIDS[0])), (status, None)])) as peer,
        pytest.raises(RetryLaterError, match=f"peer archive.*C-FIND.*{status:04X}") as caught,
    ):
        find(peer)
    assert not isinstance(caught.value, ServiceRefusedError)


SENT = [f"2.25.{number}" for number in range(1, 13)]


@pytest.mark.parametrize("status", [0x0000, 0xFE00, 0xA700, 0xC001], ids="{:04X}".format)
@pytest.mark.parametrize("limit", [1, 5])
@pytest.mark.fault(
    "delivery",
    "a destination answers a C-FIND with fewer instances than it has, and ends it with success, FE00, A700 or Cxxx",
    "what the list lacks is asked for by its UID, in portions and at last one by one",
)
def test_what_a_limited_list_lacks_is_asked_for_by_its_uid(
    limit: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "FOUND_AT_A_TIME", 4)
    scp = LimitedQueryScp(SENT[:-1], limit, status)
    with running_finder(scp) as peer:
        assert find_instances(peer, "ISCL_NODE", STUDY, SERIES, SENT) == frozenset(SENT[:-1])
        wait_until(lambda: scp.ends == ["released"])
    assert scp.asked[0] == []
    assert max(map(len, scp.asked)) == 4
    assert [SENT[-1]] in scp.asked


def test_a_list_that_is_whole_is_asked_for_once() -> None:
    scp = LimitedQueryScp(SENT, len(SENT), 0xFE00)
    with running_finder(scp) as peer:
        assert find_instances(peer, "ISCL_NODE", STUDY, SERIES, SENT) == frozenset(SENT)
    assert scp.asked == [[]]


def test_a_limit_below_one_answer_is_named() -> None:
    with (
        running_finder(LimitedQueryScp(SENT, 0, 0xFE00)) as peer,
        pytest.raises(RetryLaterError, match=r"FE00 .*; does it limit the number of its answers\?"),
    ):
        find_instances(peer, "ISCL_NODE", STUDY, SERIES, SENT)


def test_a_peer_that_leaves_between_two_questions_is_asked_again() -> None:
    def leave(event: Event) -> None:
        if len(scp.queries) > 1:
            event.assoc.abort(block=False)

    scp = ScriptedQueryScp([(PENDING, instance(UIDS[0]))], leave)
    with running_finder(scp) as peer, pytest.raises(RetryLaterError, match="peer archive"):
        find_instances(peer, "ISCL_NODE", STUDY, SERIES, SENT)


@pytest.mark.parametrize("status", [0xA900, 0xC001, 0x0122])
def test_a_peer_that_refuses_a_query_for_good_says_why(status: int) -> None:
    with (
        running_finder(ScriptedQueryScp([(status, None)])) as peer,
        pytest.raises(ServiceRefusedError, match=f"peer archive.*C-FIND.*{status:04X}"),
    ):
        find(peer)


def test_a_peer_without_queries() -> None:
    with running(ScriptedQueryScp([]), verification_only()) as peer:
        with pytest.raises(NothingAcceptedError, match="Study Root"):
            find(peer)
        with pytest.raises(NothingAcceptedError, match="Study Root"):
            move_instances(peer, "ISCL_NODE", STUDY, SERIES, UIDS)


@pytest.mark.fault(
    "delivery",
    "a destination aborts, hangs up, or says nothing when it is asked what it has of a series",
    "left in time, asked again later; what it said before counts for nothing",
)
@pytest.mark.parametrize("how", ["abort", "hang up", "silence"])
def test_a_peer_that_stops_in_the_middle_is_asked_again(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(association, "_DIMSE_SECONDS", 0.5)

    def react(event: Event) -> None:
        if how == "abort":
            event.assoc.abort(block=False)
        elif how == "hang up":
            event.assoc.dul.socket.socket.close()
        else:
            time.sleep(2.0)

    start = time.monotonic()
    with running_finder(ScriptedQueryScp([(PENDING, instance(UIDS[0]))], react)) as peer:
        with pytest.raises(RetryLaterError, match="peer archive"):
            find(peer)
        assert time.monotonic() - start < PATIENCE_SECONDS


@pytest.mark.fault(
    "delivery",
    "a destination answers a query without an end",
    "left after 100,000 answers or 10 minutes, asked again later",
)
@pytest.mark.parametrize("limit", ["_MOST_ANSWERS", "_FIND_SECONDS"])
def test_endless_answers_are_left(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, limit, 2 if limit == "_MOST_ANSWERS" else 0.0)
    start = time.monotonic()
    with (
        running_finder(ScriptedQueryScp([(PENDING, instance(f"2.25.{number}")) for number in range(50)])) as peer,
        pytest.raises(RetryLaterError, match="does not come to an end"),
    ):
        find(peer)
    assert time.monotonic() - start < PATIENCE_SECONDS


def move(peer: Peer, uids: Sequence[str] = UIDS) -> MoveResult:
    return move_instances(peer, "ISCL_NODE", STUDY, SERIES, uids)


def test_instances_are_moved_to_us_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MOVED_AT_A_TIME", 2)
    scp = ScriptedMoveScp([(0x0000, {"Completed": 1, "Failed": 0, "Warning": 1}), (0xB000, {"Failed": 1})])
    with running_mover(scp) as peer:
        assert move(peer) == MoveResult(completed=1, failed=1, warnings=1)
    assert scp.destinations == ["ISCL_NODE", "ISCL_NODE"]
    first, second = scp.queries
    assert list(first.SOPInstanceUID) == UIDS[:2]
    assert second.SOPInstanceUID == UIDS[2]
    assert {each.QueryRetrieveLevel for each in scp.queries} == {"IMAGE"}
    assert {each.SeriesInstanceUID for each in scp.queries} == {SERIES}


def test_a_slow_archive_has_more_time_than_for_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MOVED_AT_A_TIME", 2)
    monkeypatch.setattr(association, "_DIMSE_SECONDS", 0.3)
    monkeypatch.setattr(association, "_NETWORK_SECONDS", 0.3)
    with running_mover(ScriptedMoveScp([(0x0000, {}), (0x0000, {})], seconds=1.0)) as peer:
        assert move(peer) == MoveResult(completed=3)


def test_a_success_without_counts_is_of_all() -> None:
    with running_mover(ScriptedMoveScp([(0x0000, {})])) as peer:
        assert move(peer) == MoveResult(completed=3)


def test_nothing_to_move_needs_no_peer() -> None:
    assert move(Peer("archive", "ARCHIVE", "127.0.0.1", 1), []) == MoveResult()


def test_a_peer_that_does_not_know_us_is_told_of() -> None:
    with (
        running_mover(ScriptedMoveScp([(0xA801, {})])) as peer,
        pytest.raises(ServiceRefusedError, match=r"peer archive.*A801.*does not know us as AE title ISCL_NODE"),
    ):
        move(peer)


def test_a_peer_that_cannot_send_to_us_now_is_asked_again() -> None:
    with (
        running_mover(ScriptedMoveScp([(0xA702, {"Failed": 3})])) as peer,
        pytest.raises(RetryLaterError, match=r"peer archive.*C-MOVE.*A702") as caught,
    ):
        move(peer)
    assert not isinstance(caught.value, ServiceRefusedError)
