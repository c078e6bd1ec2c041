"""The engine is made to agree with the spool: what failed, was lost or is of an earlier release is begun."""

from collections import Counter
from collections.abc import Callable

import pytest
from delivery_bench import A_DAY, UIDS, Archive, Bench
from sqlalchemy.exc import OperationalError

from iscl_node.domain import SeriesState
from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.engine.words import Work

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
