"""Batches that were sent: asked for by commitment or query, sent again, and brought to their end, on a real spool.

The engine is simulated: its clock stands still until it is moved. What it simulates of the real one is in
`simulated_engine`, and is proved of the real one in ``tests/pipeline/engine/test_relied_on.py``.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from delivery_bench import A_DAY, SERIES, UIDS, Archive, Bench
from factories import ct_dataset, part10
from structlog.testing import capture_logs

from iscl_node.domain import CommitmentReport, Confirm, SeriesState
from iscl_node.network.commitment_reports import UnknownTransactionError
from iscl_node.pipeline.workflows.batch import place_of
from iscl_node.retry import Backoff
from iscl_node.store.again import resend
from iscl_node.store.listing import Listing

MakeBench = Callable[..., Bench]


@pytest.mark.parametrize(
    ("confirm", "offers", "way"),
    [
        ("auto", {"commitment", "query"}, "commitment"),
        ("auto", {"query"}, "query"),
        ("commitment", {"commitment"}, "commitment"),
        ("query", {"commitment", "query"}, "query"),
    ],
)
def test_a_batch_is_done_when_its_destination_says_that_it_keeps_everything(
    bench: MakeBench, confirm: Confirm, offers: set[str], way: str
) -> None:
    on = bench(Archive(confirm=confirm, offers=offers))
    batch = on.batch()
    on.tick(times=2)
    assert on.states() == {"done": 1}
    assert on.count("pacs", way, "confirmed") == 1
    resent = on.metrics.registry.get_sample_value("iscl_node_resent_instances_total", {"peer": "pacs"})
    assert resent == 0  # and not absent, or the alert would not see the first
    assert len(on.spool.derived_instances(batch)) == 3
    assert on.engine.under_way() == []


@pytest.mark.fault(
    "delivery",
    "the destination accepts Storage Commitment and refuses every request for it",
    "with `auto` C-FIND is asked",
)
def test_a_destination_that_refuses_to_commit_is_queried(bench: MakeBench) -> None:
    on = bench(Archive(refuses={"commitment"}))
    on.batch()
    on.tick(times=2)
    assert on.states() == {"done": 1}
    assert on.count("pacs", "query", "confirmed") == 1


@pytest.mark.fault(
    "delivery",
    "the destination offers Storage Commitment, and never answers a request for it",
    "it is asked again; with `auto` C-FIND is asked after `report_hours`",
)
def test_a_destination_that_never_answers_a_request_is_queried(bench: MakeBench) -> None:
    archive = Archive(hangs={"commitment"})
    on = bench(archive)
    on.batch()
    on.tick(seconds=A_DAY / 10, times=10)
    assert (on.states(), archive.queries) == ({"sent": 1}, 0)
    on.tick(seconds=A_DAY / 10, times=3)
    assert on.states() == {"done": 1}
    assert on.count("pacs", "query", "confirmed") == 1


@pytest.mark.fault(
    "machine",
    "the clock is set back by years while a report on a storage commitment is waited for",
    "it is asked for once more, and no wait lasts longer",
)
def test_a_clock_that_is_set_back_makes_no_wait_longer(bench: MakeBench) -> None:
    archive = Archive(offers={"commitment"}, reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick()
    on.clock.now -= 100 * A_DAY
    on.tick(seconds=60, times=20)
    assert len(archive.transactions) == 2
    archive.reports_at_once = True
    on.tick(seconds=A_DAY / 10, times=11)
    assert on.states() == {"done": 1}


@pytest.mark.fault(
    "delivery",
    "the destination offers Storage Commitment and no C-FIND, and its report never comes",
    "there is a new request each time `report_hours` are over; the batch is done when one is reported on",
)
@pytest.mark.parametrize("restarts", [False, True])
def test_without_queries_a_report_that_never_came_is_asked_for_anew(bench: MakeBench, restarts: bool) -> None:
    archive = Archive(offers={"commitment"}, reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick(seconds=A_DAY / 10, times=31)
    assert len(archive.transactions) == 4
    if restarts:
        on.restart()
    archive.reports_at_once = True
    on.tick(seconds=A_DAY / 10, times=11)
    assert on.states() == {"done": 1}


@pytest.mark.parametrize("offers", [{"commitment", "query"}, {"commitment"}])
def test_without_a_service_that_answers_a_batch_is_kept(bench: MakeBench, offers: set[str]) -> None:
    on = bench(Archive(offers=offers, refuses={"commitment", "query"}))
    on.batch()
    with capture_logs() as lines:
        on.tick(seconds=900, times=10)
    assert on.states() == {"sent": 1}
    (line,) = [each for each in lines if each["event"] == "confirmation.retry_scheduled"]
    assert 'confirm = "none"' in line["reason"]


def test_a_destination_that_need_not_confirm_is_not_asked(bench: MakeBench) -> None:
    archive = Archive(confirm="none")
    on = bench(archive)
    on.batch()
    on.tick()
    assert on.states() == {"done": 1}
    assert (archive.transactions, archive.queries) == ([], 0)


@pytest.mark.fault(
    "delivery",
    "the destination offers neither Storage Commitment nor C-FIND",
    'the batch is kept in `sent`; a line of the log, once, says to set `confirm = "none"`',
)
@pytest.mark.parametrize("confirm", ["auto", "commitment", "query"])
def test_without_any_service_a_batch_is_kept(bench: MakeBench, confirm: Confirm) -> None:
    on = bench(Archive(confirm=confirm, offers=set()))
    batch = on.batch()
    on.tick(seconds=900, times=10)
    assert on.states() == {"sent": 1}
    assert set(on.spool.derived_instances(batch)) == set(UIDS)
    (reason,) = set(on.engine.put_off)
    assert 'confirm = "none"' in reason

    on.archives["pacs"].confirm = "none"
    on.restart()
    on.tick(seconds=900)
    assert on.states() == {"done": 1}


@pytest.mark.fault(
    "delivery",
    "a destination refuses to confirm four batches, or leaves questions about them unanswered, for ever",
    "they are asked about ever more rarely, in the end once in `report_hours`; the others are confirmed",
)
@pytest.mark.parametrize("mood", ["refuses", "hangs"])
@pytest.mark.parametrize("confirm", ["auto", "commitment", "query"])
def test_batches_that_a_destination_never_confirms_hold_up_no_other(
    bench: MakeBench, mood: str, confirm: Confirm
) -> None:
    archive = Archive(confirm=confirm, minds="2.25.4")
    setattr(archive, mood, {"commitment", "query"})
    on = bench(archive)
    for number in range(4):
        batch = on.batch(number=number)
        on.spool.write_derived(batch, SERIES, "2.25.4", part10(ct_dataset(SOPInstanceUID="2.25.4")))
        on.store(batch, "pacs", ["2.25.4"])
    on.tick()
    for number in range(4, 10):
        on.batch(number=number)
    on.tick(seconds=60, times=2)
    assert on.states() == {"sent": 4, "done": 6}
    on.tick(seconds=A_DAY / 10, times=100)
    assert len(on.engine.rows) < 4 * 60  # two for each question, and four questions would be asked each hour

    archive.minds = "nothing"
    archive.keeps |= {"2.25.4"}
    on.tick(seconds=A_DAY, times=2)
    assert on.states() == {"done": 10}


@pytest.mark.fault(
    "delivery",
    "the destination takes a request for storage commitment without an answer to it, and reports later",
    "the report counts, also while the next question waits",
)
def test_a_report_on_a_request_without_an_answer_counts(bench: MakeBench) -> None:
    archive = Archive(hangs={"commitment"})
    on = bench(archive)
    on.batch()
    on.tick(times=2)
    (waiting,) = [row for row in on.engine.rows.values() if row.name == "report"]
    on.reports("PACS", archive.report(waiting.identity.removeprefix("report/")))
    on.tick()
    assert on.states() == {"done": 1}


@pytest.mark.fault(
    "delivery",
    "the report on a storage commitment comes on another association",
    "it is on disk before it is answered; the batch is done then",
)
def test_a_report_that_comes_later_is_taken(bench: MakeBench) -> None:
    archive = Archive(reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick(seconds=60, times=5)
    assert on.states() == {"sent": 1}
    (transaction,) = archive.transactions

    on.reports("PACS", archive.report(transaction))
    on.tick(seconds=60, times=2)
    assert on.states() == {"done": 1}
    assert archive.transactions == [transaction]
    assert archive.queries == 0


@pytest.mark.fault(
    "peers",
    "a report on a storage commitment that was not asked for, or of which another peer was asked",
    "it is refused, and changes nothing",
)
def test_a_report_of_another_peer_or_on_nothing_is_refused(bench: MakeBench) -> None:
    archive = Archive(reports_at_once=False)
    on = bench(archive, Archive("vault"))
    on.batch()
    on.tick()
    for ae_title, uid in (("VAULT", archive.transactions[0]), ("PACS", "2.25.99"), ("STRANGER", "../../2.25.1")):
        with pytest.raises(UnknownTransactionError):
            on.reports(ae_title, archive.report(uid))
    on.tick(seconds=10, times=2)
    assert on.states() == {"sent": 1}


@pytest.mark.fault(
    "delivery",
    "no report on a storage commitment comes within `report_hours`",
    "with `auto` C-FIND is asked, with `commitment` there is a new request",
)
@pytest.mark.parametrize(("confirm", "queries", "requests"), [("auto", 1, 1), ("commitment", 0, 2)])
def test_a_report_that_never_comes_is_not_waited_for_for_ever(
    bench: MakeBench, confirm: Confirm, queries: int, requests: int
) -> None:
    archive = Archive(confirm=confirm, reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick(seconds=A_DAY / 10, times=10)
    assert (archive.queries, len(archive.transactions)) == (0, 1)
    archive.reports_at_once = True
    on.tick(seconds=A_DAY / 10, times=2)
    assert (archive.queries, len(set(archive.transactions))) == (queries, requests)
    assert on.states() == {"done": 1}


@pytest.mark.fault(
    "delivery",
    "an archive reports later than `report_hours`, while the next request waits for its turn",
    "the late report counts, and is not refused: slow archives are not asked again and again for ever",
)
@pytest.mark.parametrize("keeps", [UIDS, UIDS[:1]])
def test_a_late_report_counts_while_the_next_request_waits(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, keeps: tuple[str, ...]
) -> None:
    archive = Archive(confirm="commitment", reports_at_once=False)
    on = bench(archive, Archive("vault", offers=set()))
    batch = on.batch()
    on.until(lambda: [work.name for work in on.engine.under_way() if place_of(work)[1] == "pacs"] == ["report"])
    (first,) = archive.transactions
    row = on.engine.rows[f"report/{first}"]
    row.due, row.is_delayed = on.clock.now, False
    ask = on.workflow._ask
    monkeypatch.setattr(on.workflow, "_ask", lambda *arguments: ask(*arguments[:5], 60))
    on.engine.run_due()
    assert [work.name for work in on.engine.under_way() if place_of(work)[1] == "pacs"] == ["confirmation"]

    archive.keeps, before = set(keeps), set(on.engine.rows)
    for _ in range(2):  # the peer repeats it
        on.reports("PACS", archive.report(first))
    on.engine.run_due()
    record = on.deliveries.record(batch, "pacs")
    assert record.is_confirmed == (keeps == UIDS)
    archive.keeps, archive.reports_at_once = set(UIDS), True
    on.until(lambda: on.deliveries.record(batch, "pacs").is_confirmed, seconds=60)
    on.until(lambda: [work for work in on.engine.under_way() if place_of(work)[1] == "pacs"] == [], seconds=60)
    sends = [row for identity, row in on.engine.rows.items() if row.name == "delivery" and identity not in before]
    assert len(sends) == (0 if keeps == UIDS else 1)
    assert archive.stored == [uid for uid in UIDS if uid not in keeps]


@pytest.mark.fault(
    "machine",
    "the node is killed between a request for storage commitment and the report",
    "the next start asks anew; the report on either request counts",
)
@pytest.mark.parametrize("which", [0, 1])
def test_a_restarted_node_asks_anew_and_takes_either_report(bench: MakeBench, which: int) -> None:
    archive = Archive(reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick()
    on.restart()
    on.tick()
    assert len(set(archive.transactions)) == 2

    on.reports("PACS", archive.report(archive.transactions[which]))
    on.restart()
    on.tick(times=2)
    assert on.states() == {"done": 1}
    assert len(archive.transactions) == 2


@pytest.mark.fault(
    "delivery",
    "the destination stored instances and does not have them any more",
    "they are sent again under their UIDs, again and again if need be; the batch is kept until they are there",
)
@pytest.mark.parametrize(("confirm", "way"), [("commitment", "commitment"), ("query", "query")])
def test_what_a_destination_forgot_is_sent_again(bench: MakeBench, confirm: Confirm, way: str) -> None:
    archive = Archive(confirm=confirm, keeps={"2.25.1"})
    on = bench(archive)
    batch = on.batch()
    for round_ in (1, 2):
        on.until(lambda: on.deliveries.record(batch, "pacs").rounds == round_)  # noqa: B023 - asked at once
        record = on.deliveries.record(batch, "pacs")
        assert (record.missing, set(record.stored)) == ({"2.25.2", "2.25.3"}, {"2.25.1"})
        assert archive.stored == ["2.25.2", "2.25.3"] * (round_ - 1)  # once in a round
    assert on.states() == {"sent": 1}

    archive.keeps = set(UIDS)
    on.until(lambda: on.states() == {"done": 1})
    assert on.count("pacs", way, "missing") == 2
    assert on.metrics.registry.get_sample_value("iscl_node_resent_instances_total", {"peer": "pacs"}) == 4


def test_the_rounds_of_sending_again_are_further_and_further_apart(bench: MakeBench) -> None:
    archive = Archive(keeps=set())
    on = bench(archive)
    on.batch()
    on.until(lambda: len(archive.stored_at) == 5)
    waits = [after - before for before, after in pairwise([1_000_000.0, *archive.stored_at])]
    assert waits[0] > 60
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]


@pytest.mark.fault(
    "delivery", "the destination lists what it stored only a while later", "nothing is sent again; it is asked again"
)
def test_an_archive_that_is_slow_to_list_is_asked_again(bench: MakeBench) -> None:
    archive = Archive(confirm="query", keeps=set())
    on = bench(archive)
    on.batch()
    on.tick(seconds=60, times=2)
    archive.keeps = set(UIDS)
    on.tick(seconds=60, times=2)
    assert on.states() == {"done": 1}
    assert archive.stored == []


def test_what_a_report_does_not_mention_is_sent_again(bench: MakeBench) -> None:
    archive = Archive(reports_at_once=False)
    on = bench(archive)
    batch = on.batch()
    on.tick()
    on.reports("PACS", CommitmentReport(archive.transactions[0], frozenset(UIDS[:2]), {}))
    on.tick()
    assert on.deliveries.record(batch, "pacs").missing == {"2.25.3"}
    on.tick(seconds=60, times=3)
    assert archive.stored == ["2.25.3"]


def test_a_report_on_what_was_sent_before_does_not_count_for_what_was_sent_again(bench: MakeBench) -> None:
    archive = Archive(keeps=set())
    on = bench(archive)
    on.batch()
    on.until(lambda: archive.stored)
    on.reports("PACS", CommitmentReport(archive.transactions[0], frozenset(UIDS), {}))
    archive.is_down = True
    on.tick(seconds=60, times=2)
    assert on.states() == {"sent": 1}


@pytest.mark.fault(
    "delivery",
    "a storage commitment fails with reason 0x0119 or 0x0122, which sending again will not change",
    "quarantine with the reason",
)
@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_what_a_destination_will_never_commit_to_needs_a_person(bench: MakeBench, reason: int) -> None:
    on = bench(Archive(keeps=set(UIDS[:2]), failure_reason=reason), Archive("vault"))
    on.batch()
    on.tick(times=2)
    (quarantined,) = on.spool.quarantined()
    assert f"{reason:04X}" in quarantined.reason
    assert on.count("vault", "commitment", "confirmed") == 1


@pytest.mark.fault(
    "delivery",
    "a destination that was sent to is down, or full, when it is to confirm",
    "it is asked again, ever more rarely, and for four batches at most; each is done when it has confirmed",
)
def test_a_destination_that_is_down_is_not_asked_for_every_batch(bench: MakeBench) -> None:
    archive = Archive(is_down=True)
    asked = []
    archive._answer, answer = (lambda service, uids: (asked.append(service), answer(service, uids))[1]), archive._answer  # type: ignore[method-assign, func-returns-value]
    on = bench(archive)
    for number in range(20):
        on.batch(number=number)
    on.tick(seconds=1, times=40)
    assert 8 <= len(asked) <= 20  # four times each
    assert on.states() == {"sent": 20}

    archive.is_down = False
    on.tick(seconds=60, times=3)
    assert on.states() == {"done": 20}


@pytest.mark.fault(
    "delivery",
    "of two destinations one is down, before it was sent to or after",
    "the other confirms; the batch is done when both have",
)
@pytest.mark.parametrize("state", [SeriesState.CLOSED, SeriesState.SENT])
def test_a_destination_that_is_up_is_asked_while_another_is_down(bench: MakeBench, state: SeriesState) -> None:
    vault = Archive("vault", is_down=True)
    on = bench(Archive(), vault)
    on.batch(*(["pacs"] if state is SeriesState.CLOSED else []), state=state)
    on.tick(seconds=60, times=3)
    assert on.count("pacs", "commitment", "confirmed") == 1
    assert on.states() == {state.value: 1}

    vault.is_down = False
    on.tick(seconds=900)
    assert on.states() == {"done": 1}
    assert on.count("pacs", "commitment", "confirmed") == 1


@pytest.mark.fault(
    "delivery",
    "a destination has not taken or confirmed a batch for `give_up_hours`",
    "quarantine with the last reason, after one try at least; the time that the node is off does not count",
)
@pytest.mark.parametrize(
    ("is_down", "keeps", "reason"),
    [
        (True, set(), "no connection"),
        (False, {"2.25.1"}, "stored 2 instances and has lost them"),
        (False, set(), "takes everything and shows nothing"),
    ],
)
def test_a_destination_is_given_up_if_the_settings_say_so(
    bench: MakeBench, is_down: bool, keeps: set[str], reason: str
) -> None:
    archive = Archive(confirm="commitment", is_down=is_down, keeps=keeps)
    on = bench(archive, Archive("vault"))
    on.give_up_seconds = A_DAY
    on.restart()
    batch = on.batch()
    on.tick(seconds=A_DAY / 10, times=9)
    assert on.states() == {"sent": 1}
    while on.spool.is_sent(batch):
        assert on.clock.now < 1_000_000 + 2 * A_DAY
        on.tick(seconds=A_DAY / 10)
    (quarantined,) = on.spool.quarantined()
    assert "given up after 24 hours" in quarantined.reason
    assert reason in quarantined.reason


def test_a_destination_that_is_up_again_is_asked_before_it_is_given_up(bench: MakeBench) -> None:
    archive = Archive(is_down=True)
    on = bench(archive)
    on.batch()
    on.give_up_seconds = A_DAY
    on.clock.now += 2 * A_DAY
    archive.is_down = False
    on.restart()
    on.tick(times=2)
    assert on.states() == {"done": 1}


def test_nobody_is_asked_before_everything_was_sent(bench: MakeBench) -> None:
    archive = Archive(takes=0)
    on = bench(archive)
    batch = on.batch("nobody", state=SeriesState.CLOSED)
    on.store(batch, "pacs", UIDS[:2])
    on.tick(seconds=60, times=3)
    assert (archive.transactions, archive.stored, on.states()) == ([], [], {"closed": 1})
    archive.takes = 1
    on.tick(seconds=60, times=3)
    assert (len(archive.transactions), archive.stored, on.states()) == (1, ["2.25.3"], {"done": 1})


@pytest.mark.fault(
    "spool",
    "the record of what was sent is torn, or lost, in a batch that was sent",
    "what is not known to be stored is sent again before it is asked for",
)
def test_what_is_not_on_record_is_sent_again(bench: MakeBench) -> None:
    archive = Archive()
    on = bench(archive)
    batch = on.batch("nobody")
    on.store(batch, "pacs", UIDS[:2])
    archive.tells = lambda: archive.stored == ["2.25.3"] or pytest.fail("asked before")
    on.tick()
    assert (archive.stored, on.states()) == (["2.25.3"], {"done": 1})


def test_what_is_known_to_be_missing_is_sent_again_though_nothing_need_be_confirmed_by_now(bench: MakeBench) -> None:
    archive = Archive(keeps=set())
    on = bench(archive)
    batch = on.batch()
    on.tick(seconds=60)
    assert on.deliveries.record(batch, "pacs").missing == set(UIDS)
    archive.confirm = "none"
    on.restart()
    on.tick(seconds=60)
    assert (on.states(), archive.stored) == ({"sent": 1}, [])
    on.tick(seconds=60, times=2)
    assert (on.states(), archive.stored) == ({"done": 1}, list(UIDS))


@pytest.mark.fault(
    "machine",
    "an upgrade begins a batch anew that one of two destinations has confirmed, and other instances are made of it",
    "these have to be confirmed, too",
)
def test_a_confirmation_does_not_count_for_what_was_stored_after_it(bench: MakeBench) -> None:
    pacs, vault = Archive(), Archive("vault", is_down=True)
    on = bench(pacs, vault)
    batch = on.batch("pacs", state=SeriesState.CLOSED)
    on.tick(times=2)
    assert on.deliveries.record(batch, "pacs").is_confirmed
    on.spool.write_derived(batch, SERIES, "2.25.4", part10(ct_dataset(SeriesInstanceUID=SERIES)))
    for archive in (pacs, vault):
        archive.keeps.add("2.25.4")
    vault.is_down = False
    on.restart()
    on.tick(seconds=900, times=3)
    assert on.states() == {"done": 1}
    assert pacs.stored == ["2.25.4"]
    assert on.count("pacs", "commitment", "confirmed") == 2


@pytest.mark.fault(
    "delivery",
    "a destination is taken out of the settings, or may not `receive` any more, before it confirmed",
    "quarantine with the reason",
)
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_destination_that_is_gone_needs_a_person(bench: MakeBench, is_gone: bool) -> None:
    on = bench(Archive(), Archive("vault", is_down=True))
    on.batch()
    on.tick()
    if is_gone:
        del on.archives["vault"]
    else:
        on.archives["vault"].may_receive = False
    on.restart()
    on.tick(times=2)
    (quarantined,) = on.spool.quarantined()
    assert "'vault' is gone from the settings" in quarantined.reason


@pytest.mark.fault(
    "spool",
    "it is lost where a batch went that was sent, or its file is damaged",
    "quarantine with the reason; the other batches go on",
)
@pytest.mark.parametrize("content", [None, b"", b'{"time": "2026-', b"\xff"])
def test_a_batch_of_which_it_is_not_known_where_it_went_needs_a_person(bench: MakeBench, content: bytes | None) -> None:
    on = bench(Archive())
    batch = on.batch()
    file = next((on.spool.root / "sent").glob("*/*/*.destinations.json"))
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    on.tick()
    assert [each.batch for each in on.spool.quarantined()] == [batch]


@pytest.mark.fault(
    "spool",
    "the disk is full when a destination has confirmed",
    "that is written down, and the batch moved, when there is space again",
)
def test_a_full_disk_puts_confirmation_off(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick()
    on.reports("PACS", archive.report(archive.transactions[0]))
    with _full_disk(monkeypatch):
        on.tick(seconds=10, times=2)
    assert on.states() == {"sent": 1}
    on.tick(seconds=60)
    assert on.states() == {"done": 1}
    assert len(archive.transactions) == 1


@contextmanager
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("iscl_node.store.records.deliveries.append_synced", full)
        yield


def test_recovery_keeps_the_outbox_of_what_is_under_way_or_done(bench: MakeBench) -> None:
    on = bench(Archive())
    batches = [on.batch(number=1), on.batch(state=SeriesState.CLOSED, number=2), on.batch(number=3)]
    on.spool.release(batches[2])
    on.spool.recover()
    assert [len(on.spool.derived_instances(each)) for each in batches] == [3, 3, 3]


def test_waits_grow_to_the_last_one() -> None:
    backoff = Backoff(5, 900)
    assert [backoff.wait_seconds(tries) for tries in (0, 1, 2, 3, 100)] == [5, 10, 20, 40, 900]
    assert backoff.wait_seconds(10**6) < math.inf


def wait_of(on: Bench) -> str:
    """Why the only batch waits."""
    (batch,) = on.spool.batches_under_way()
    (listed,) = Listing(on.spool.root).series(batch.series_instance_uid)
    wait = listed.deliveries[0].wait
    return "" if wait is None else wait.reason


def test_it_is_told_what_a_confirmation_waits_for(bench: MakeBench) -> None:
    archive = Archive(reports_at_once=False)
    on = bench(archive)
    on.batch()
    on.tick()
    assert wait_of(on) == "its report on storage commitment is waited for"
    archive.offers, archive.keeps = {"query"}, {UIDS[0]}
    on.until(lambda: wait_of(on) == "2 of 3 instances are not found by C-FIND yet", seconds=A_DAY / 10)
    on.until(lambda: "has lost them" in wait_of(on), seconds=10)
    archive.keeps = set(UIDS)
    on.until(lambda: on.states() == {"done": 1}, seconds=60)
    assert not list(on.spool.root.rglob("*.wait.json"))


@pytest.mark.parametrize("confirm", ["auto", "none"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_what_a_person_has_sent_once_more_is_sent_and_confirmed_once_more(
    bench: MakeBench, confirm: Confirm, is_lost: bool
) -> None:
    archives = Archive(confirm=confirm), Archive("other", confirm=confirm)
    on = bench(*archives)
    batch = on.batch()
    on.tick(times=2)
    assert on.states() == {"done": 1}
    assert resend(on.spool, batch.series_instance_uid, {"pacs"}, 0) == {"pacs": 3}
    for _ in range(2):  # as after a restart
        on.begin(batch)
    assert [work.arguments[2] for work in on.engine.under_way()] == ["pacs"]
    if is_lost:
        on.engine.lose()
    on.tick(times=3)
    assert on.states() == {"done": 1}
    assert [archive.stored for archive in archives] == [list(UIDS), []]
    assert on.engine.under_way() == []
