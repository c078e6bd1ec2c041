"""A delivered series once more: made anew, or sent anew."""

import json
from datetime import timedelta

import pytest
from spool_contents import NOW, SERIES, files, header, part10

from iscl_node.domain import Batch, InstanceReference, StoreAnswer
from iscl_node.errors import RetryLaterError
from iscl_node.store.again import redo, resend
from iscl_node.store.records.deliveries import Deliveries, DeliveryRecord
from iscl_node.store.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"
LATER = NOW + timedelta(days=1)


def delivered(spool: Spool, sop: str = "1.2.3.1", destinations: tuple[str, ...] = ("pacs", "other")) -> Batch:
    """A batch of one instance of which every destination has confirmed the derived one."""
    spool.store(header(sop), part10(sop.encode()))
    batch = spool.close(SERIES, NOW)
    deliveries = Deliveries(spool.root)
    deliveries.begin(batch, destinations, running_seconds=5)
    spool.write_derived(batch, "2.25.7", f"2.25.7{sop[-1]}", b"derived")
    for name in destinations:
        deliveries.note_answers(batch, name, [StoreAnswer(InstanceReference(CT, f"2.25.7{sop[-1]}"), 0, True)])
        deliveries.note_confirmed(batch, name, "query")
    spool.release(batch)
    return batch


def test_a_series_that_is_redone_is_one_closed_batch_with_nothing_made_of_it(spool: Spool) -> None:
    delivered(spool, "1.2.3.1")
    delivered(spool, "1.2.3.2")
    new = redo(spool, SERIES, LATER)
    assert new is not None
    assert spool.closed_batches() == [new]
    assert [path.name for path in spool.instances(new)] == ["1.2.3.1.dcm", "1.2.3.2.dcm"]
    assert Deliveries(spool.root).destinations(new) == ()
    assert not [name for name in files(spool) if name.startswith(("outbox", "done"))]


def test_the_records_of_what_was_delivered_before_stay_with_a_series_that_is_redone(spool: Spool) -> None:
    old = delivered(spool)
    new = redo(spool, SERIES, LATER)
    assert new is not None
    assert len([name for name in files(spool) if f"{new.key}/{old.key}." in name]) == 3


@pytest.mark.parametrize("series", [SERIES, "1.2.4", "../../etc"])
def test_what_is_not_delivered_is_not_done_again(spool: Spool, series: str) -> None:
    spool.store(header(), part10(b"a"))
    assert redo(spool, series, NOW) is None
    assert resend(spool, series, {"pacs"}, 0) == {}
    assert files(spool) == [f"open/{SERIES}/1.2.3.1.dcm"]


@pytest.mark.fault(
    "spool",
    "a delivered series is to be made or sent once more while a late slice of it is on its way",
    "refused until that is delivered, too",
)
@pytest.mark.parametrize("state", ["closed", "sent"])
def test_a_series_that_is_still_on_its_way_is_not_done_again(spool: Spool, state: str) -> None:
    delivered(spool, "1.2.3.1")
    spool.store(header("1.2.3.2"), part10(b"b"))
    late = spool.close(SERIES, NOW)
    if state == "sent":
        spool.mark_sent(late)
    before = files(spool)
    with pytest.raises(RetryLaterError, match="on its way"):
        redo(spool, SERIES, LATER)
    with pytest.raises(RetryLaterError, match="on its way"):
        resend(spool, SERIES, {"pacs"}, 0)
    assert files(spool) == before


@pytest.mark.fault(
    "spool",
    "`kill -9` while the batches of a series that is to be redone are joined",
    "every instance is there once, in a delivered batch, and the next try does the rest",
)
def test_a_kill_while_batches_are_joined_loses_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered(spool, "1.2.3.1")
    delivered(spool, "1.2.3.2")
    with monkeypatch.context() as killed:
        killed.setattr("iscl_node.store.again.move_folder", _kill)
        with pytest.raises(KeyboardInterrupt):
            redo(spool, SERIES, LATER)
    spool.recover()
    assert sorted(name[-11:] for name in files(spool) if name.startswith("done") and name.endswith(".dcm")) == [
        "1.2.3.1.dcm",
        "1.2.3.2.dcm",
    ]
    new = redo(spool, SERIES, LATER)
    assert new is not None
    assert len(spool.instances(new)) == 2


def _kill(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_resent_counts_as_stored_by_nobody_it_goes_to(spool: Spool) -> None:
    batch = delivered(spool)
    deliveries = Deliveries(spool.root)
    assert resend(spool, SERIES, {"pacs", "stranger"}, 100) == {"pacs": 1}
    assert spool.closed_batches() == [batch]
    assert deliveries.record(batch, "pacs") == DeliveryRecord(again=1)
    assert deliveries.record(batch, "other").is_confirmed
    assert deliveries.began(batch) == 100
    assert spool.derived_instances(batch) == {"2.25.71": "2.25.7"}


def test_each_time_counts_from_its_own_begin(spool: Spool) -> None:
    batch = delivered(spool)
    deliveries = Deliveries(spool.root)
    for time in (1, 2):
        resend(spool, SERIES, {"pacs"}, 0)
        deliveries.note_answers(batch, "pacs", [StoreAnswer(InstanceReference(CT, "2.25.71"), 0, True)])
        assert deliveries.record(batch, "pacs") == DeliveryRecord(
            {"2.25.71": CT}, instances={"2.25.71": CT}, again=time
        )
        spool.release(batch)


def test_what_went_to_no_such_destination_or_is_not_kept_stays_delivered(spool: Spool) -> None:
    batch = delivered(spool)
    assert resend(spool, SERIES, {"stranger"}, 0) == {}
    (spool.outbox(batch) / "2.25.7" / "2.25.71.dcm").unlink()
    assert resend(spool, SERIES, {"pacs"}, 0) == {}
    assert spool.closed_batches() == []


def test_the_record_keeps_what_was_before(spool: Spool) -> None:
    delivered(spool)
    resend(spool, SERIES, {"pacs"}, 0)
    (record,) = (spool.root / "closed").rglob("*.pacs-*.jsonl")
    events = [json.loads(line)["event"] for line in record.read_text().splitlines()]
    assert events == ["answered", "confirmed", "again"]
