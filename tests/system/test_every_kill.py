"""The whole program is killed before each call by which it changes what lasts or tells somebody something.

See `killed_node` for what these points are. A run that is not disturbed finds them; then each is struck in a node of
its own. What must hold in the end is always the same: nothing that was acknowledged is missing, each destination has
the very instances of the run that was not disturbed, and the node is ready by itself.

``ISCL_NODE_KILLS_PART`` in the environment, such as ``2/6``, has the long tests strike at the second, the eighth and so
on of the points alone.
"""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import series_uid_of, wait_until_done
from disturbed_node import DisturbedNode, send_what_is_taken, two_archives
from factories import ct_series
from killed_node import DATABASE, Orders, Passing
from pydicom.dataset import FileDataset

pytestmark = pytest.mark.peers

PART, PARTS = map(int, os.environ.get("ISCL_NODE_KILLS_PART", "1/1").split("/"))


class Way:
    """The way of one series through a node that is disturbed, to two archives in two strengths.

    Parameters
    ----------
    folder : Path
        For everything that is written.
    bundle : Path
        The model.
    archives : pair of RecordingArchive
        The destinations.
    series : list of FileDataset
        What is sent.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        archives: tuple[RecordingArchive, RecordingArchive],
        series: list[FileDataset],
    ) -> None:
        self._folder = folder
        self._bundle = bundle
        self.series = series
        self.archives = archives
        self.passings: list[Passing] = []
        self._expected: set[str] = set()
        self._numbers = count()

    def record(self) -> None:
        """Go it undisturbed, and note the points and what arrives."""
        node = self._node("undisturbed")
        record = self._folder / "points.txt"
        try:
            node.start(Orders(record))
            send_what_is_taken(node, self.series)
            node.wait_for(lambda: self._is_done(node), "the end")
        finally:
            node.close()
        self._expected = set(self.archives[0].counts())
        self._check_nothing_done_twice(node, 0)
        assert len(self._expected) == 2 * len(self.series)
        counts: Counter[str] = Counter()
        for point in record.read_text().splitlines():
            counts[point] += 1
            self.passings.append(Passing(point, counts[point]))

    def first(self, pattern: str) -> Passing:
        """The first passing of the first point that has the pattern in its name."""
        found = [passing for passing in self.passings if re.search(pattern, passing.point, re.IGNORECASE)]
        assert found, f"no point is named like {pattern}"
        return found[0]

    def after_commits(self) -> list[Passing]:
        """What is passed next after each commit to the workflow database."""
        pairs = pairwise(self.passings)
        return [following for passing, following in pairs if passing.point.endswith("COMMIT")]

    def go(self, *fatal: Passing, is_power_cut: bool = False, unsynced: str = "", undoes_commit: bool = False) -> bool:
        """Go it with a kill or a power cut, start the node anew, and check everything; whether it was struck.

        Of several passings the second is struck in the start after the first, and so on. ``unsynced`` and
        ``undoes_commit`` are as in `Orders`.
        """
        for archive in self.archives:
            archive.forget()
        folder = self._folder / f"{next(self._numbers)}"
        node = self._node(folder.name)
        taken: set[str] = set()
        strikes = 0
        try:
            for passing in fatal:
                left = folder / f"left {strikes}" if is_power_cut else None
                node.start(Orders(folder / "points.txt", passing, left, unsynced, undoes_commit))
                strikes += self._strike(node, taken, left, passing)
            node.start()
            self._send_the_rest(node, taken)
            wait_until_done(node, self.series)
            self._check(node)
            if not is_power_cut:
                self._check_nothing_done_twice(node, strikes)
        finally:
            node.close()
        shutil.rmtree(folder)
        return strikes == len(fatal)

    def _strike(self, node: DisturbedNode, taken: set[str], left: Path | None, fatal: Passing) -> bool:
        """Wait for the strike at a node that was started, and check what is there behind it."""
        if node.is_running:
            self._send_the_rest(node, taken)
        node.wait_for(lambda: not node.is_running or self._is_done(node), f"the end at {fatal}")
        is_struck = not node.is_running
        assert node.was_killed or not is_struck, node.log_tail()
        node.close()
        if left and is_struck:
            _cut(node.spool, left)
        self._check_kept(node, taken)
        return is_struck

    def _send_the_rest(self, node: DisturbedNode, taken: set[str]) -> None:
        taken |= send_what_is_taken(node, [each for each in self.series if str(each.SOPInstanceUID) not in taken])

    def _node(self, name: str) -> DisturbedNode:
        return DisturbedNode(self._folder / name, self.archives, self._bundle)

    def _is_done(self, node: DisturbedNode) -> bool:
        uid = series_uid_of(self.series)
        return node.states(uid) == {"done"} and node.is_at_rest()

    def _check_kept(self, node: DisturbedNode, taken: set[str]) -> None:
        """What was answered with success is in the spool, to the byte."""
        for dataset in self.series:
            copies = node.spool.rglob(f"{dataset.SOPInstanceUID}.dcm")
            is_kept = any(dataset.PixelData in copy.read_bytes() for copy in copies)
            assert is_kept or str(dataset.SOPInstanceUID) not in taken, "an acknowledged instance is lost"

    def _check(self, node: DisturbedNode) -> None:
        kept = {path.stem for path in node.files("done", series_uid_of(self.series))}
        assert kept == {str(each.SOPInstanceUID) for each in self.series}
        assert json.loads(node.page("readyz"))
        for archive in self.archives:
            assert set(archive.counts()) == self._expected
            # Of all copies: had one been sent again in another form, there would be three.
            assert {len(found) for found in archive.derived_of(self.series).values()} == {2}

    def _check_nothing_done_twice(self, node: DisturbedNode, kills: int) -> None:
        """Of each destination one instance may be in hand at a kill; a workflow that was killed goes on."""
        for archive in self.archives:
            stored_again = archive.counts().total() - len(self._expected)
            assert stored_again <= kills, f"{stored_again} instances were stored again"
        assert "workflow.restarted" not in node.log(), node.log_tail()
        ends = Counter(json.loads(line)["batch"] for line in node.log().splitlines() if '"batch.ended"' in line)
        assert set(ends.values()) <= {1}, node.log_tail()


def _cut(spool: Path, left: Path) -> None:
    """Put what the power cut left in the place of the spool; SQLite has synced what it wrote."""
    before = spool.rename(left.with_name(f"before {left.name}"))
    shutil.copytree(left, spool)
    if not (spool / DATABASE).exists():
        for file in before.glob(f"{DATABASE}*"):
            shutil.copy(file, spool)


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Way]:
    with two_archives() as archives:
        way = Way(tmp_path_factory.mktemp("way"), bundle, archives, ct_series(2, ProtocolName="TWO STRENGTHS"))
        way.record()
        yield way


@pytest.mark.parametrize("pattern", ["COMMIT", "store.*os.link", "derive.*os.rename", "command 0001 to"])
@pytest.mark.fault(
    "machine",
    "`kill -9` of the whole program before any one call that changes the spool, commits to the workflow database or "
    "sends a PDU, once or again (some in each run of the tests, all in `make test-long`)",
    "nothing acknowledged is lost; the next start brings the series to both destinations under the same UIDs, no "
    "instance in two forms, and the node is ready by itself",
)
def test_kill_at_some_points(way: Way, pattern: str) -> None:
    assert way.go(way.first(pattern))


@pytest.mark.parametrize(
    "pattern",
    ["A-RELEASE-RP to the sender", "close.*os.rename", "Deliver.*COMMIT", "command 0130", "mark_sent.*rename"],
)
@pytest.mark.fault(
    "machine",
    "the power is cut before any one of these calls: files and names that are not synced are gone (some in each run of "
    "the tests, all in `make test-long`)",
    "the same: nothing acknowledged is lost, each destination has each instance under one UID in one form",
)
def test_power_cut_at_some_points(way: Way, pattern: str) -> None:
    assert way.go(way.first(pattern), is_power_cut=True)


@pytest.mark.parametrize("is_power_cut", [False, True])
@pytest.mark.fault(
    "machine",
    "`kill -9`, or a power cut, in the reception, and then in each start in what it goes on with",
    "the same",
)
def test_struck_again_and_again(way: Way, is_power_cut: bool) -> None:
    patterns = "command 8001", "close.*os.rename", "derive.*os.rename", "command 0001 to"
    assert way.go(*map(way.first, patterns), is_power_cut=is_power_cut)


@pytest.mark.parametrize("unsynced", ["file", "folder"])
def test_a_sync_that_is_missing_is_noticed(way: Way, unsynced: str) -> None:
    """The tests of power cuts can fail."""
    with pytest.raises(AssertionError, match="an acknowledged instance is lost"):
        way.go(way.first("A-RELEASE-RP to the sender"), is_power_cut=True, unsynced=unsynced)


@pytest.mark.fault(
    "machine",
    "a power cut undoes the last commit to the workflow database as well, as SQLite may (after one commit in each run "
    "of the tests, after each in `make test-long`)",
    "that step is done again, with the same end",
)
def test_power_cut_that_undoes_a_commit(way: Way) -> None:
    sent = way.first("_refusal.*COMMIT")
    assert way.go(way.passings[way.passings.index(sent) + 1], is_power_cut=True, undoes_commit=True)


@pytest.mark.long
def test_kill_at_every_point(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    _strike(capsys, way.passings, way.go)


@pytest.mark.long
def test_power_cut_at_every_point(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    _strike(capsys, way.passings, partial(way.go, is_power_cut=True))


@pytest.mark.long
def test_power_cut_that_undoes_any_commit(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    _strike(capsys, way.after_commits(), partial(way.go, is_power_cut=True, undoes_commit=True))


def _strike(capsys: pytest.CaptureFixture[str], passings: Sequence[Passing], strike: Callable[[Passing], bool]) -> None:
    """Strike at each of the passings, whatever comes of the ones before."""
    missed, failures = [], []
    passings = passings[PART - 1 :: PARTS]
    for passing in passings:
        try:
            if not strike(passing):
                missed.append(str(passing))
        except (AssertionError, pytest.fail.Exception) as failure:
            failures.append(f"{passing}: {failure}")
    points = len({passing.point for passing in passings})
    with capsys.disabled():
        sys.stdout.write(f"{points} points, passed {len(passings)} times; not reached again: {missed}\n")
    assert not failures, "\n\n".join(failures)
    assert len(missed) < len(passings) / 10
