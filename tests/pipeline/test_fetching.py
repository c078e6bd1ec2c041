"""Fetching from an archive: each series once, none given up too early, and all of it again after an end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from iscl_node.errors import RetryLaterError
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NoAssociationError, NothingAcceptedError
from iscl_node.network.scu.query import MoveResult
from iscl_node.pipeline.fetching import Fetching, Progress
from iscl_node.retry import Backoff
from iscl_node.store.records.fetched import FETCHED_FILE, Fetched


class Archive:
    """Two studies with two series of two instances each."""

    def __init__(self) -> None:
        self.has = {"1": ["1.1", "1.2"], "2": ["2.1", "2.2"]}
        self.moved: list[str] = []
        self.faults: dict[str, list[Exception]] = {}
        self.loses: dict[str, int] = {}

    def _fail(self, name: str) -> None:
        if faults := self.faults.get(name):
            raise faults.pop(0)

    def series(self, study_uid: str) -> list[str]:
        self._fail(study_uid)
        return self.has.get(study_uid, [])

    def instances(self, _study_uid: str, series_uid: str) -> list[str]:
        return [f"{series_uid}.1", f"{series_uid}.2"]

    def move(self, _study_uid: str, series_uid: str, sop_uids: list[str]) -> MoveResult:
        self._fail(series_uid)
        self.moved.append(series_uid)
        lost = self.loses.pop(series_uid, 0)
        return MoveResult(completed=len(sop_uids) - lost, failed=lost)


class Bench:
    """An archive, and what happens while it is fetched from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.archive = Archive()
        self.turns = 0
        self.pauses: list[float] = []
        self.reports: list[str] = []
        self.at_turn: Callable[[], object] = lambda: None

    def fetch(self, *studies: str, choice: str = "CT", is_new: bool = False) -> Progress:
        fetched = Fetched(self.root, "pacs", choice, is_new=is_new)
        report = lambda _progress, happened: self.reports.append(happened)  # noqa: E731
        rest = self._turn, self.pauses.append, Backoff(5, 900), report
        return Fetching(self.archive, fetched, *rest).fetch(studies)

    def _turn(self) -> None:
        self.turns += 1
        self.at_turn()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_each_series_is_fetched_once(bench: Bench) -> None:
    assert bench.fetch("1", "2") == Progress(studies=2, study=2, series=4, instances=8)
    assert bench.archive.moved == ["1.1", "1.2", "2.1", "2.2"]
    assert bench.turns == 4
    assert bench.fetch("1", "2") == Progress(studies=2, study=2, fetched_before=2)
    assert len(bench.archive.moved) == 4
    assert bench.fetch("1", is_new=True).series == 2


@pytest.mark.fault("spool", "fetching is killed in the middle of a study", "it goes on with the series that is missing")
def test_it_goes_on_where_it_ended(bench: Bench) -> None:
    def killed() -> None:
        if bench.turns == 2:
            raise KeyboardInterrupt

    bench.at_turn = killed
    with pytest.raises(KeyboardInterrupt):
        bench.fetch("1", "2")
    with (bench.root / FETCHED_FILE).open("ab") as file:
        file.write(b'{"time": "2026-01-01T00:00:00+00:00", "event": "fet')
    assert bench.fetch("1", "2").series == 3
    assert bench.archive.moved == ["1.1", "1.2", "2.1", "2.2"]


def test_another_choice_of_series_looks_into_the_study_again(bench: Bench) -> None:
    bench.fetch("1")
    bench.archive.has["1"] += ["1.3"]
    assert bench.fetch("1").series == 0
    assert bench.fetch("1", choice="thin").series == 1


@pytest.mark.fault("peers", "it cannot be reached for a while", "fetching waits, longer each time")
def test_an_archive_that_is_away_is_waited_for(bench: Bench) -> None:
    bench.archive.faults["1"] = [NoAssociationError("no connection")] * 9
    assert bench.fetch("1").series == 2
    assert bench.pauses == [5, 10, 20, 40, 80, 160, 320, 640, 900]
    assert bench.reports[0] == "no connection; again in 5 s"


@pytest.mark.fault("peers", "not all instances of a series arrive", "fetched again, five times; then the next series")
def test_what_did_not_arrive_is_fetched_again_and_then_left(bench: Bench) -> None:
    bench.archive.loses["1.1"] = 1
    assert bench.fetch("1").failed == 0
    assert bench.archive.moved == ["1.1", "1.1", "1.2"]
    bench.archive.faults["2.1"] = [RetryLaterError("full")] * 5
    progress = bench.fetch("2")
    assert (progress.series, progress.failed) == (1, 1)
    assert "series 2.1 of study 2 is not fetched: full" in bench.reports
    assert bench.fetch("2").series == 1, "the study was not done"


def test_what_the_archive_refuses_or_does_not_have_is_reported(bench: Bench) -> None:
    bench.archive.faults["2.1"] = [ServiceRefusedError("does not know us")]
    bench.archive.faults["1"] = [ServiceRefusedError("not this one")]
    progress = bench.fetch("1", "2", "3")
    assert (progress.series, progress.failed) == (1, 3)
    assert bench.reports[-1] == "study 3: the peer has none of the series that are wanted"
    assert bench.pauses == []
    bench.archive.faults["1"] = [NothingAcceptedError("no C-FIND")]
    with pytest.raises(NothingAcceptedError):
        bench.fetch("1")
