"""The engine is made to agree with the spool: what failed, was lost or is of an earlier release is begun."""

from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest
import structlog
from delivery_bench import A_DAY, NOON, UIDS, Archive, Bench
from sqlalchemy.exc import OperationalError

from iscl_node.domain import Batch, SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.engine.words import Work
from iscl_node.store.again import redo, resend

MakeBench = Callable[..., Bench]
STEPS = ["check", "planned", "derive", "judge", "destinations", "send", "settle", "transaction", "ask", "conclude"]


def test_as_long_as_nothing_goes_wrong_nothing_is_begun(bench: MakeBench) -> None:
    on = bench(Archive(), Archive("vault", reports_at_once=False))
    on.begin(on.closed())
    begun = []
    for _ in range(8):
        on.engine.run_due()
        begun.append(on.reconcile())
        on.clock.now += 60
    assert set(begun) == {0}
    assert on.states() == {"sent": 1}
    assert [archive.stored for archive in on.archives.values()] == [list(UIDS)] * 2


def test_what_is_begun_while_it_looks_is_not_begun_twice(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive()
    on = bench(archive)
    batch = on.closed()

    def looks_just_before_it_is_begun(*_: object) -> list[Work]:
        work = on.engine.under_way()
        on.begin(batch)
        return work

    monkeypatch.setattr("iscl_node.pipeline.workflows.reconcile.under_way", looks_just_before_it_is_begun)
    assert on.reconcile() == 0
    assert [row.name for row in on.engine.rows.values()] == ["series"]
    on.engine.run_due()
    assert archive.stored == list(UIDS)


def closes(on: Bench) -> Callable[[], object]:
    batch = on.closed()
    return lambda: on.begin(batch)


def runs(on: Bench) -> Callable[[], object]:
    batch = on.closed()

    def run() -> None:
        on.begin(batch)
        for _ in range(3):
            on.engine.run_due()

    return run


def sends_once_more(on: Bench) -> Callable[[], object]:
    batch = on.batch()
    on.tick(times=2)

    def send() -> None:
        assert resend(on.spool, batch.series_instance_uid, on.archives, 0)
        on.begin(batch)

    return send


def makes_anew(on: Bench) -> Callable[[], object]:
    batch = on.batch()
    on.tick(times=2)

    def make() -> None:
        new = redo(on.spool, batch.series_instance_uid, NOON)
        assert new is not None
        on.begin(new)

    return make


def requeues(on: Bench) -> Callable[[], object]:
    batch = on.closed()
    on.spool.quarantine(batch, "an error")

    def give_back() -> None:
        for new in on.spool.requeue(batch.series_instance_uid, NOON):
            on.begin(new)

    return give_back


ACTS = [closes, runs, sends_once_more, makes_anew, requeues]


@pytest.mark.fault(
    "machine",
    "a series is closed, runs to its end, is sent once more, made anew or requeued at any moment of the comparison of "
    "the spool with the workflow engine",
    "one workflow makes it and one delivers it",
)
@pytest.mark.parametrize("moment", range(1, 5))
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_what_happens_while_it_looks_is_done_once(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, act: Callable[[Bench], Callable[[], object]], moment: int
) -> None:
    on = bench(Archive())
    happens = act(on)
    on.closed(1)  # was not started, so that there is a second look
    moments = count(1)

    def look(*arguments: object) -> list[Work]:
        if next(moments) == moment:
            happens()
        work = on.engine.under_way(*arguments)  # type: ignore[arg-type]
        if next(moments) == moment:
            happens()
        return work

    before = set(on.engine.rows)
    monkeypatch.setattr("iscl_node.pipeline.workflows.reconcile.under_way", look)
    on.reconcile()
    assert next(moments) > moment
    on.until(lambda: set(on.states()) == {"done"})
    started = [row for identity, row in on.engine.rows.items() if identity not in before]
    works = Counter((row.name, *row.arguments[:2]) for row in started if row.name in ("series", "make", "delivery"))
    assert set(works.values()) == {1}


def test_who_leads_no_more_starts_nothing_again(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    on = bench(Archive())
    on.engine.fails_at = "check"
    on.begin(on.closed())
    on.engine.run_due()
    rows = len(on.engine.rows)
    monkeypatch.setattr(on, "leads", False)
    assert on.reconcile() == 0
    assert len(on.engine.rows) == rows
    monkeypatch.setattr(on, "leads", True)
    assert on.reconcile() == 1


@pytest.mark.fault(
    "machine",
    "two workers end the last two deliveries of a batch at the same moment",
    "one of them ends the batch, and it is counted and logged once",
)
def test_two_workers_end_a_batch_once(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    on = bench(Archive(confirm="none"))
    batch = on.batch()
    other = Concluding(*on.concluding_parts)
    release = on.spool.release

    def late(ended: Batch) -> bool:
        monkeypatch.setattr(on.spool, "release", release)
        other.settle(ended)
        return release(ended)

    monkeypatch.setattr(on.spool, "release", late)
    with structlog.testing.capture_logs() as logs:
        on.concluding.settle(batch)
    assert on.states() == {"done": 1}
    assert [line["event"] for line in logs].count("batch.ended") == 1


@pytest.mark.fault(
    "machine",
    "the workflow database refuses the record of a step with an error that does not pass, in each step",
    "what failed is started again; the batch comes to its end, is not set aside, and nothing is sent again",
)
@pytest.mark.parametrize("step", STEPS)
def test_what_failed_is_begun_anew(bench: MakeBench, step: str) -> None:
    archive = Archive()
    on = bench(archive)
    on.engine.fails_at = step
    on.begin(on.closed())
    on.engine.run_due()
    assert on.engine.fails_at == ""
    on.tick(seconds=60)
    assert on.states() == {"done": 1}
    assert archive.stored == list(UIDS)


@pytest.mark.fault(
    "machine",
    "the workflow database is lost at any point of a delivery",
    "work starts again from the spool: nothing that is on record is sent again, what was asked is asked anew",
)
@pytest.mark.parametrize("takes", [0, 2, 3])
@pytest.mark.parametrize("reports_at_once", [True, False])
def test_a_lost_database_is_rebuilt_from_the_spool(bench: MakeBench, takes: int, reports_at_once: bool) -> None:
    archive = Archive(takes=takes, reports_at_once=reports_at_once)
    on = bench(archive)
    batch = on.closed()
    on.begin(batch)
    on.engine.run_due()
    on.engine.lose()
    on.restart()
    archive.takes, archive.reports_at_once = 3, True
    if batch in on.spool.closed_batches():
        on.begin(batch)
    on.tick(seconds=60, times=2)
    assert on.states() == {"done": 1}
    assert Counter(archive.stored) == dict.fromkeys(UIDS, 1)
    assert on.steps.calls == ["check"]


@pytest.mark.fault(
    "machine",
    "an upgrade finds batches of the release before in its spool: not started, sent in part, sent, confirmed in part, "
    "missing something, refused",
    "each goes on where it was: what is on record as stored is not sent again",
)
@pytest.mark.parametrize("state", ["closed", "sent in part", "sent", "confirmed in part", "missing", "refused"])
def test_a_spool_of_the_release_before_is_taken_over(bench: MakeBench, state: str) -> None:
    pacs, vault = Archive(), Archive("vault")
    on = bench(pacs, vault)
    expected: tuple[list[str], list[str]] = ([], [])
    match state:
        case "closed":
            on.begin(on.closed())
            expected = (list(UIDS), list(UIDS))
        case "sent in part":
            on.store(on.batch("pacs", state=SeriesState.CLOSED), "vault", UIDS[:1])
            expected = ([], list(UIDS[1:]))
        case "sent":
            on.batch()
        case "confirmed in part":
            on.deliveries.note_confirmed(on.batch(), "pacs", "commitment")
        case "missing":
            on.deliveries.note_missing(on.batch(), "vault", {UIDS[0]: "0112"}, 1)
            expected = ([], [UIDS[0]])
        case "refused":
            on.deliveries.note_refusal(on.batch(), "pacs", "no room for this")
    on.tick(seconds=60, times=3)
    assert on.states() == ({"quarantine": 1} if state == "refused" else {"done": 1})
    assert (pacs.stored, vault.stored) == expected
    assert len(pacs.transactions) == (state not in ("confirmed in part", "refused"))


@pytest.mark.fault(
    "delivery",
    "a destination takes everything and shows nothing, round after round",
    "the rounds are further and further apart; after five there is one a day at most, the images are kept, a line of "
    "the log and a metric tell it, and it is asked on: when it shows them, the batch is done",
)
@pytest.mark.parametrize("offers", [{"commitment"}, {"query"}])
def test_a_destination_that_shows_nothing_is_not_filled(bench: MakeBench, offers: set[str]) -> None:
    archive = Archive(offers=offers, keeps=set())
    on = bench(archive)
    batch = on.batch()
    on.until(lambda: on.count("pacs", *offers, "shows nothing"), seconds=60)
    assert archive.stored == list(UIDS) * 5
    stopped = {"peer": "pacs"}
    on.tick(seconds=A_DAY / 4)
    assert on.metrics.registry.get_sample_value("iscl_node_stopped_deliveries", stopped) == 1
    assert set(on.spool.derived_instances(batch)) == set(UIDS)
    questions = archive.queries + len(archive.transactions)
    on.tick(seconds=A_DAY / 8, times=32)
    assert archive.queries + len(archive.transactions) <= questions + 32
    assert len(archive.stored) <= len(UIDS) * 10  # one more round a day at most
    archive.keeps = set(UIDS)
    on.tick(seconds=A_DAY / 2, times=4)
    assert on.states() == {"done": 1}
    assert on.metrics.registry.get_sample_value("iscl_node_stopped_deliveries", stopped) == 0


def test_a_record_that_cannot_be_read_holds_up_no_other_delivery(bench: MakeBench) -> None:
    on = bench(Archive())
    batches = [on.batch(state=SeriesState.CLOSED, number=number) for number in (0, 1)]
    broken = min(batches)
    folder = on.spool.root / "closed" / broken.series_instance_uid / broken.key
    record = folder / f"{broken.key}.destinations.json"
    record.unlink()
    record.mkdir()
    for _ in range(3):
        with pytest.raises(OSError, match="directory"):
            on.reconcile()
        on.engine.run_due()
    assert on.states() == {"closed": 1, "done": 1}


def test_a_database_that_refuses_is_asked_again(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    on = bench(Archive())
    monkeypatch.setattr("iscl_node.pipeline.workflows.reconcile.under_way", refuse)
    with pytest.raises(RetryLaterError, match="does not answer: OperationalError"):
        on.reconcile()
    monkeypatch.setattr("iscl_node.pipeline.workflows.commitment_reports.find", refuse)
    with pytest.raises(RetryLaterError, match="takes no report: OperationalError"):
        on.reports("PACS", Archive().report("2.25.7"))
