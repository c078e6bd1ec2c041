"""When a series is closed: quiet and complete, or by the policy of its rule."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import ct_series, part10
from multiframe import enhanced_ct
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import AtTimeout, CompletenessPolicy, Peer, Rule
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu.query import MoveResult
from iscl_node.pipeline import kept_headers
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.reception import completeness
from iscl_node.pipeline.reception.closing import SeriesCloser
from iscl_node.pipeline.reception.completeness import Completeness
from iscl_node.pipeline.reception.peer_lists import PeerListings
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.spool import Spool

RULE = Rule("CT", {"Modality": "CT"}, "abdomen", (1.0,), " ISCL", ("pacs",))
SERIES = ct_series(8)
UID = str(SERIES[0].SeriesInstanceUID)
GAP = [*SERIES[:3], *SERIES[5:]]
LATE = SERIES[3:5]
MISSING = "2 slices missing between 3.0 and 6.0 mm"


PACS = Peer("pacs", "PACS", "127.0.0.1", 104, may_query=True)


class Clock:
    """Seconds that grow when a test says so; each look at it takes a moment if one is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.moment = 0.0

    def __call__(self) -> float:
        self.now += self.moment
        return self.now


def by(at_timeout: AtTimeout) -> Rule:
    return replace(RULE, completeness=CompletenessPolicy(timeout_seconds=300, at_timeout=at_timeout))


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Pacs:
    """A peer that has a part of the series; each question and each move is noted."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.has: Sequence[Dataset] = ()
        self.fault: Exception | None = None
        self.asked: list[str] = []
        self.moved: list[list[str]] = []
        self.let_go = threading.Event()
        self.let_go.set()

    def find(self, peer: Peer, study_uid: str, series_uid: str) -> frozenset[str]:
        assert (peer, study_uid) == (PACS, str(SERIES[0].StudyInstanceUID))
        self.asked.append(series_uid)
        assert self.let_go.wait(30)
        if self.fault is not None:
            raise self.fault
        return frozenset(str(each.SOPInstanceUID) for each in self.has)

    def move(self, peer: Peer, study_uid: str, series_uid: str, sop_uids: Sequence[str]) -> MoveResult:
        self.moved.append(list(sop_uids))
        assert self.let_go.wait(30)
        if self.fault is not None:
            raise self.fault
        sent = [each for each in self.has if str(each.SOPInstanceUID) in sop_uids]
        receive(self._spool, sent)
        return MoveResult(completed=len(sent), failed=len(sop_uids) - len(sent))

    @staticmethod
    def settle() -> None:
        """Wait until nothing is asked or fetched any more."""
        for thread in threading.enumerate():
            if thread.name.endswith(f" {PACS.name}"):
                thread.join(30)
                assert not thread.is_alive()


class Closer:
    """A closer with a clock of its own, and what became of the series."""

    def __init__(self, spool: Spool, metrics: Metrics, clock: Clock, rules: Iterable[Rule], pacs: Pacs) -> None:
        self._spool, self._metrics = spool, metrics
        listings = PeerListings({PACS.name: PACS}, pacs.find, pacs.move, clock)
        completeness = Completeness(OpenSeries(spool.root), tuple(rules), 0, listings, metrics, clock)
        self._closer = SeriesCloser(spool, 0, completeness, lambda batch: None, metrics)

    def tick(self) -> list[int]:
        """Tick, and tell how many instances each closed batch has."""
        self._closer.tick()
        return [len(self._spool.instances(batch)) for batch in self._spool.closed_batches()]

    def closed(self, by: str) -> float:
        return self._metrics.registry.get_sample_value("iscl_node_series_closed_total", {"completeness": by}) or 0

    def incomplete(self, state: str) -> float | None:
        return self._metrics.registry.get_sample_value("iscl_node_incomplete_series", {"state": state})


MakeCloser = Callable[..., Closer]


@pytest.fixture
def pacs(spool: Spool) -> Iterator[Pacs]:
    pacs = Pacs(spool)
    yield pacs
    pacs.let_go.set()
    pacs.settle()


@pytest.fixture
def make_closer(spool: Spool, metrics: Metrics, clock: Clock, pacs: Pacs) -> MakeCloser:
    return lambda *rules: Closer(spool, metrics, clock, rules or (RULE,), pacs)


def receive(spool: Spool, instances: Iterable[Dataset]) -> None:
    for instance in instances:
        data = part10(instance)
        spool.store(read_header(data), data)


def test_a_quiet_series_without_a_gap_is_closed(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, SERIES)
    closer = make_closer()
    assert closer.tick() == [8]
    assert closer.closed("geometry") == 1


@pytest.mark.fault(
    "reception",
    "a quiet series has a gap, and the missing slices arrive before the time-out",
    "it waits, and makes one batch",
)
def test_a_gap_waits_for_the_late_slices(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, GAP)
    closer = make_closer()
    with capture_logs() as logs:
        assert closer.tick() == closer.tick() == []
    assert [(entry["event"], entry["missing"]) for entry in logs] == [("series.found_incomplete", MISSING)]
    assert (closer.incomplete("waiting"), closer.incomplete("held")) == (1, 0)
    receive(spool, LATE[:1])
    assert closer.tick() == []
    receive(spool, LATE[1:])
    assert closer.tick() == [8]
    assert closer.closed("geometry") == 1
    closer.tick()
    assert closer.incomplete("waiting") == 0


@pytest.mark.fault(
    "reception",
    "slices in the middle of a series never arrive, and the policy is to process",
    "at the time-out the series is closed and processed as it is, with what is missing in the log",
)
def test_the_time_out_closes_by_default(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    closer = make_closer()
    closer.tick()
    clock.now += 299.9
    assert closer.tick() == []
    clock.now += 0.2
    with capture_logs() as logs:
        assert closer.tick() == [6]
    (told,) = (entry for entry in logs if entry["event"] == "series.closed")
    assert (told["completeness"], told["missing"]) == ("timeout", MISSING)
    assert closer.closed("timeout") == 1
    assert [spool.incomplete(batch) for batch in spool.closed_batches()] == [""]


def test_the_time_out_counts_from_the_last_arrival(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    closer = make_closer()
    closer.tick()
    clock.now += 200
    receive(spool, LATE[:1])
    closer.tick()
    clock.now += 200
    assert closer.tick() == []
    clock.now += 101
    assert closer.tick() == [7]


@pytest.mark.fault(
    "reception",
    "slices in the middle of a series never arrive, and the policy is quarantine",
    "at the time-out the series goes to quarantine with what is missing; requeued, it is processed as it is",
)
def test_the_time_out_quarantines(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    closer = make_closer(by("quarantine"))
    closer.tick()
    clock.now += 301
    assert closer.tick() == [6]
    (batch,) = spool.closed_batches()
    assert spool.incomplete(batch) == MISSING
    spool.quarantine(batch, "what the workflow says")
    (requeued,) = spool.requeue(UID, datetime.now(UTC))
    assert spool.incomplete(requeued) == ""
    assert len(spool.instances(requeued)) == 6


@pytest.mark.fault(
    "reception",
    "slices in the middle of a series never arrive, and the policy is to wait",
    "behind the time-out the series stays open and is reported, until it is complete or a person closes it",
)
def test_the_time_out_holds(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    closer = make_closer(by("wait"))
    closer.tick()
    clock.now += 301
    with capture_logs() as logs:
        assert closer.tick() == closer.tick() == []
    assert [(entry["event"], entry["missing"]) for entry in logs] == [("series.held", MISSING)]
    assert (closer.incomplete("waiting"), closer.incomplete("held")) == (0, 1)
    (held,) = OpenSeries(spool.root).incomplete()
    assert (held.series_instance_uid, held.missing, held.is_held) == (UID, MISSING, True)
    receive(spool, LATE)
    assert closer.tick() == [8]
    assert OpenSeries(spool.root).incomplete() == []


@pytest.mark.fault(
    "spool",
    "the disk is full when it is noted for `iscl-node status` that a series waits",
    "nothing is held up by that, and it is noted when there is room",
)
def test_what_waits_is_told_as_soon_as_the_disk_lets_it(
    spool: Spool, make_closer: MakeCloser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    receive(spool, GAP)
    closer = make_closer()
    with monkeypatch.context() as patch:
        patch.setattr("iscl_node.store.receiving.open_series.replace_synced", refuse)
        assert closer.tick() == []
    assert OpenSeries(spool.root).incomplete() == []
    closer.tick()
    assert [each.missing for each in OpenSeries(spool.root).incomplete()] == [MISSING]


def test_what_a_person_closed_is_no_longer_waited_for(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    closer = make_closer(by("wait"))
    closer.tick()
    spool.close(UID, datetime.now(UTC))
    assert OpenSeries(spool.root).incomplete() == []
    assert closer.tick() == [6]
    assert closer.incomplete("waiting") == 0
    assert json.loads((spool.root / "incomplete.json").read_bytes()) == []


@pytest.mark.fault(
    "machine",
    "the clock of the machine jumps while an incomplete series waits",
    "the time-out comes neither earlier nor later",
)
@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_moves_no_time_out(
    spool: Spool, make_closer: MakeCloser, clock: Clock, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    closer = make_closer()
    closer.tick()
    receive(spool, GAP)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert closer.tick() == []
    clock.now += 299
    assert closer.tick() == []
    clock.now += 2
    assert closer.tick() == [6]


def test_how_long_it_was_quiet_before_a_restart_counts(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, GAP)
    os.utime(spool.root / "open" / UID, (time.time() - 400, time.time() - 400))
    assert make_closer().tick() == [6]


@pytest.mark.fault(
    "spool",
    "the node is killed between noting that a batch goes to quarantine as incomplete and closing it",
    "at the next start it is judged anew: with the late slices it is processed",
)
def test_a_note_of_a_killed_closing_does_not_stay(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, GAP)
    (spool.root / "open" / UID / "incomplete.txt").write_text(MISSING)
    receive(spool, LATE)
    assert make_closer(by("quarantine")).tick() == [8]
    assert [spool.incomplete(batch) for batch in spool.closed_batches()] == [""]


@pytest.mark.parametrize(
    ("rule", "image_type"),
    [
        (replace(RULE, when={"Modality": "MR"}), "AXIAL"),
        (replace(RULE, ignore="no need"), "AXIAL"),
        (by("wait"), "LOCALIZER"),
    ],
    ids=["no rule", "ignored", "cannot be processed"],
)
def test_what_will_not_be_processed_does_not_wait(
    spool: Spool, make_closer: MakeCloser, rule: Rule, image_type: str
) -> None:
    series = ct_series(8, ImageType=["ORIGINAL", "PRIMARY", image_type])
    receive(spool, [*series[:3], *series[5:]])
    closer = make_closer(rule)
    assert closer.tick() == [6]
    assert closer.closed("quiet") == 1


def test_the_first_rule_that_holds_tells_the_policy(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    hasty = replace(RULE, name="other", when={"KVP": 80}, completeness=CompletenessPolicy(timeout_seconds=0))
    assert make_closer(hasty, RULE).tick() == []
    assert make_closer(replace(hasty, when={"KVP": 120}), RULE).tick() == [6]


def test_multi_frame_does_not_wait(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, [enhanced_ct(3)])
    assert make_closer().tick() == [1]


@pytest.mark.fault(
    "reception",
    "late slices arrive one by one after their series was closed at the time-out",
    "they are judged together with what was closed before: nothing missing, no waiting",
)
def test_late_slices_are_judged_with_the_earlier_batches(spool: Spool, make_closer: MakeCloser, clock: Clock) -> None:
    receive(spool, GAP)
    closer = make_closer()
    closer.tick()
    clock.now += 301
    assert closer.tick() == [6]
    spool.release(spool.closed_batches()[0])
    receive(spool, LATE[:1])
    assert closer.tick() == []
    clock.now += 301
    assert closer.tick() == [1]
    receive(spool, LATE[1:])
    assert closer.tick() == [1, 1]
    assert (closer.closed("timeout"), closer.closed("geometry")) == (2, 1)


def test_a_late_slice_whose_earlier_batch_is_deleted_does_not_wait(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, LATE[:1])
    assert make_closer().tick() == [1]


@pytest.mark.fault(
    "reception",
    "a file of an open series cannot be read any more",
    "the series is closed when it is quiet, and the workflow reports it",
)
def test_a_file_that_cannot_be_read_keeps_nothing_open(spool: Spool, make_closer: MakeCloser) -> None:
    receive(spool, GAP)
    next(iter((spool.root / "open" / UID).iterdir())).write_bytes(b"no DICOM")
    closer = make_closer(by("wait"))
    assert closer.tick() == [6]
    assert closer.closed("quiet") == 1


@pytest.mark.fault(
    "reception",
    "a pipe or a link to nowhere lies in an open series",
    "it is not read, the series is closed, and the workflow reports it",
)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["pipe", "link"])
def test_what_is_no_file_is_not_read(spool: Spool, make_closer: MakeCloser, make: Callable[[Path], object]) -> None:
    receive(spool, SERIES)
    make(spool.root / "open" / UID / "1.2.3.dcm")
    closer = make_closer(by("wait"))
    assert closer.tick() == [9]
    assert closer.closed("geometry") == 1


@pytest.mark.fault(
    "reception",
    "a series of very many slices is to be judged",
    "its headers are read little by little, and the other series are closed",
)
def test_a_large_series_holds_up_no_other(
    spool: Spool, make_closer: MakeCloser, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    real = kept_headers.read_instance
    monkeypatch.setattr(KeptHeaders, "instance", lambda _, path: (reads.append(path), real(path))[1])
    clock.moment = completeness.READING_SECONDS / 4
    receive(spool, ct_series(20))
    receive(spool, ct_series(2, SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.1"))
    closer = make_closer()
    assert closer.tick() == [1]
    ticks = 1
    while len(closer.tick()) < 2:
        ticks += 1
    assert 4 < ticks < 12
    assert len(reads) == len(set(reads)) == 21


# A peer is asked

ASKING = replace(RULE, completeness=CompletenessPolicy(ask="pacs"))
FETCHING = replace(RULE, completeness=CompletenessPolicy(ask="pacs", fetch=True))


def test_a_series_of_which_the_peer_has_no_more_is_closed(spool: Spool, make_closer: MakeCloser, pacs: Pacs) -> None:
    """A gap does not matter then: there is nothing that could be waited for."""
    pacs.has = GAP
    receive(spool, GAP)
    closer = make_closer(ASKING)
    assert closer.tick() == []
    pacs.settle()
    assert closer.tick() == [6]
    assert closer.closed("list") == 1
    assert pacs.asked == [UID]


@pytest.mark.fault(
    "reception",
    "the sender vanishes behind a contiguous part of a series, and a peer that is asked has all of it",
    "the series waits; with `fetch` the rest is fetched, and all is one batch",
)
def test_what_the_peer_has_is_fetched(spool: Spool, make_closer: MakeCloser, pacs: Pacs) -> None:
    pacs.has = SERIES
    receive(spool, SERIES[:5])
    closer = make_closer(FETCHING)
    closer.tick()
    pacs.settle()
    assert closer.tick() == []
    pacs.settle()
    assert closer.tick() == [8]
    assert closer.closed("list") == 1
    assert pacs.moved == [[str(each.SOPInstanceUID) for each in SERIES[5:]]]
    assert pacs.asked == [UID]


def test_what_the_peer_has_is_waited_for(spool: Spool, make_closer: MakeCloser, pacs: Pacs, clock: Clock) -> None:
    pacs.has = SERIES
    receive(spool, SERIES[:5])
    closer = make_closer(ASKING)
    closer.tick()
    pacs.settle()
    with capture_logs() as logs:
        assert closer.tick() == []
    assert logs[0]["missing"] == "3 instances that peer 'pacs' has"
    assert closer.incomplete("waiting") == 1
    clock.now += 301
    assert closer.tick() == [5]
    assert closer.closed("timeout") == 1
    assert pacs.moved == []


def test_the_peer_is_asked_again_with_pauses_that_grow(
    spool: Spool, make_closer: MakeCloser, pacs: Pacs, clock: Clock
) -> None:
    pacs.has = SERIES[:7]
    receive(spool, SERIES[:5])
    closer = make_closer(ASKING)
    for _ in range(299):
        closer.tick()
        pacs.settle()
        clock.now += 1
    assert len(pacs.asked) == 6  # after 0, 5, 15, 35, 75 and 155 seconds
    pacs.has = SERIES
    receive(spool, SERIES[5:])
    assert closer.tick() == [8]


@pytest.mark.fault(
    "reception",
    "the asked peer has fewer instances of a series than the node",
    "its list is no proof: a gap is waited for, a series without one is closed",
)
@pytest.mark.parametrize(("here", "closed"), [(SERIES, [8]), (GAP, [])], ids=["whole", "gap"])
def test_a_list_that_is_shorter_proves_nothing(
    spool: Spool, make_closer: MakeCloser, pacs: Pacs, here: list[Dataset], closed: list[int]
) -> None:
    pacs.has = here[:2]
    receive(spool, here)
    closer = make_closer(ASKING)
    closer.tick()
    pacs.settle()
    assert closer.tick() == closed


@pytest.mark.fault(
    "peers",
    "the peer that is asked what it has is down, or answers something unintelligible",
    "geometry decides; the peer is left alone for a while, for all series",
)
@pytest.mark.parametrize("fault", [RetryLaterError("peer pacs does not answer"), KeyError("unforeseen")])
def test_geometry_decides_where_the_peer_does_not_answer(
    spool: Spool, make_closer: MakeCloser, pacs: Pacs, clock: Clock, fault: Exception
) -> None:
    pacs.fault = fault
    receive(spool, SERIES)
    closer = make_closer(ASKING)
    assert closer.tick() == []
    pacs.settle()
    assert closer.tick() == [8]
    assert closer.closed("geometry") == 1
    receive(spool, ct_series(3, SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.1")[:1])
    assert closer.tick() == [1, 8]
    assert pacs.asked == [UID]
    clock.now += 6
    receive(spool, ct_series(1, SeriesInstanceUID="1.2.4", SOPInstanceUID="1.2.4.1"))
    assert closer.tick() == [1, 8]
    assert pacs.asked == [UID, "1.2.4"]


def test_a_peer_that_answered_again_is_forgiven(
    spool: Spool, make_closer: MakeCloser, pacs: Pacs, clock: Clock
) -> None:
    """The pause after its next failure is the first one again, not twice as long."""
    closer = make_closer(ASKING)
    for number, fault in enumerate([RetryLaterError("down"), None, RetryLaterError("down"), None]):
        pacs.fault = fault
        receive(spool, ct_series(1, SeriesInstanceUID=f"1.2.{number}", SOPInstanceUID=f"1.2.{number}.1"))
        closer.tick()
        pacs.settle()
        closer.tick()
        clock.now += 5
    assert pacs.asked == ["1.2.0", "1.2.1", "1.2.2", "1.2.3"]


@pytest.mark.fault(
    "peers",
    "the peer that is asked what it has takes the question and does not answer",
    "the series it was asked about waits, to the time-out at most; the others are closed",
)
def test_a_slow_peer_holds_up_nobody_else(spool: Spool, make_closer: MakeCloser, pacs: Pacs, clock: Clock) -> None:
    pacs.let_go.clear()
    other = replace(RULE, name="other", when={"SeriesInstanceUID": "1.2.3"})
    receive(spool, SERIES)
    closer = make_closer(other, ASKING)
    assert closer.tick() == []
    receive(spool, ct_series(1, SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.1"))
    assert closer.tick() == [1]
    clock.now += 301
    assert closer.tick() == [1, 8]
    assert closer.closed("geometry") == 2
    assert pacs.asked == [UID]


@pytest.mark.fault(
    "peers",
    "a peer from which missing instances are fetched does not send them",
    "it is asked to again, with pauses that grow, until the time-out",
)
def test_a_fetch_that_fails_is_tried_again(spool: Spool, make_closer: MakeCloser, pacs: Pacs, clock: Clock) -> None:
    pacs.has = SERIES
    receive(spool, SERIES[:5])
    closer = make_closer(FETCHING)
    closer.tick()
    pacs.settle()
    pacs.fault = RetryLaterError("peer pacs refuses")
    closer.tick()
    pacs.settle()
    closer.tick()
    pacs.settle()
    assert len(pacs.moved) == 1
    pacs.fault = None
    clock.now += 5
    closer.tick()
    pacs.settle()
    assert len(pacs.moved) == 2
    assert closer.tick() == [8]
