"""The machine's clock is set while the whole program has series in every state; see `moved_clock`."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from archive import RecordingArchive
from bundles import slow_bundle
from delivery import Series, files_of, series_uid_of, wait_until_done
from disturbed_node import DisturbedNode, two_archives
from killed_node import Jumps
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

HOUR, DAY, YEARS = 3600, 86_400, 10 * 365 * 86_400


@pytest.fixture
def archives() -> Iterator[tuple[RecordingArchive, RecordingArchive]]:
    with two_archives() as archives:
        yield archives


@pytest.mark.parametrize(
    "amounts",
    [
        pytest.param((DAY,), marks=pytest.mark.long),
        pytest.param((YEARS,), marks=pytest.mark.long),
        pytest.param((-HOUR,), marks=pytest.mark.long),
        pytest.param((-DAY,), marks=pytest.mark.long),
        (YEARS, -YEARS),
        pytest.param((-DAY, DAY), marks=pytest.mark.long),
    ],
)
@pytest.mark.fault(
    "machine",
    "the clock is set forward or back, by an hour, a day or ten years, while a series arrives, one with a gap waits, "
    "one is derived, one waits for its destination, one for a confirmation, one is delivered and one in quarantine",
    "nothing but what was delivered is deleted; no wait ends early or lasts longer; each series is delivered, each "
    "instance once; the node stays ready",
)
def test_clock_jumps(
    archives: tuple[RecordingArchive, RecordingArchive],
    make_series: MakeSeries,
    tmp_path: Path,
    amounts: tuple[float, ...],
) -> None:
    one = partial(make_series, 1, ProtocolName="TWO STRENGTHS")
    delivered, unconfirmed, waiting, late = map(one, ("delivered", "unconfirmed", "waiting", "late"))
    derived, arriving = (make_series(3, name, ProtocolName="TWO STRENGTHS") for name in ("derived", "arriving"))
    incomplete = make_series(5, "incomplete", ProtocolName="TWO STRENGTHS")
    refused = make_series(1, "refused", RescaleSlope=0)
    node = DisturbedNode(tmp_path / "node", archives, slow_bundle(tmp_path / "bundle", seconds=0.2))
    node.change_settings("[spool]", "[spool]\nretention_hours = 2")
    jumps = Jumps(tmp_path / "amount")
    try:
        node.start(jumps)
        send(node, [*files_of(delivered), *files_of(refused)])
        wait_until_done(node, delivered)
        archives[0].commits = False
        send(node, files_of(unconfirmed))
        node.wait_for(lambda: node.states(series_uid_of(unconfirmed)) == {"sent", "outbox"}, "the series is sent")
        for archive in archives:
            archive.stop()
        archives[0].commits = True
        send(node, [*files_of(waiting), *files_of(derived)])
        node.wait_for(lambda: _attempts(node) >= 2, "attempts to deliver")
        node.wait_for(lambda: node.files("outbox", series_uid_of(derived)), "a derived instance")
        send(node, [*files_of(incomplete)[:2], *files_of(incomplete)[3:], *files_of(arriving)[:2]])
        node.wait_for(lambda: _waits(node), "the gap is noticed")

        _set_clock(node, jumps, amounts, delivered)
        node.wait_for(lambda: _waits(node), "the gap is waited for")
        send(node, [*files_of(arriving)[2:], files_of(incomplete)[2]])
        assert node.states(series_uid_of(waiting)) == {"closed", "outbox"}
        assert node.states(series_uid_of(unconfirmed)) == {"sent", "outbox"}
        for archive in archives:
            archive.start()
        for series in (waiting, derived, arriving, incomplete):
            wait_until_done(node, series)

        node.kill()
        node.start()  # with the clock set right meanwhile
        send(node, files_of(late))
        wait_until_done(node, late)
        wait_until_done(node, unconfirmed)
        assert node.states(series_uid_of(refused)) == {"quarantine"}
    finally:
        node.close()
    for archive in archives:
        _assert_delivered_once(archive, [delivered, unconfirmed, waiting, derived, arriving, incomplete, late])


def _attempts(node: DisturbedNode) -> float:
    return node.metric("iscl_node_retries_total", {"step": "send"})


def _waits(node: DisturbedNode) -> bool:
    return node.metric("iscl_node_incomplete_series", {"state": "waiting"}) == 1


def _set_clock(node: DisturbedNode, jumps: Jumps, amounts: Sequence[float], delivered: Series) -> None:
    """Set it again and again, and let the node do all that it does by the clock."""
    for number, seconds in enumerate(amounts, start=1):
        node.set_clock(jumps, seconds)
        attempts = _attempts(node)
        node.wait_for(lambda before=attempts: _attempts(node) > before, "a further attempt to deliver")
        if sum(amounts[:number]) > 2 * HOUR:
            node.wait_for(lambda: not node.states(series_uid_of(delivered)), "what was delivered is purged")
    assert node.page("readyz")


def _assert_delivered_once(archive: RecordingArchive, all_series: Sequence[Series]) -> None:
    assert set(archive.counts().values()) == {1}
    for series in all_series:
        found = archive.derived_of(series).values()
        assert {len(each) for each in found} == {2}
        begun = {(str(d.SeriesInstanceUID), d.SeriesDate, d.SeriesTime) for each in found for d in each}
        assert len(begun) == 2, "the instances of one derived series do not tell the same date and time"
