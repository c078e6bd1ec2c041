"""The records of deliveries: on disk, wherever the batch is, whatever a kill leaves of them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, header, part10

from iscl_node.domain import Batch, InstanceReference, StoreAnswer
from iscl_node.store.leaving.export import export
from iscl_node.store.records.deliveries import Deliveries, DeliveryRecord
from iscl_node.store.spool import Spool

PACS = "pacs"
CT = "1.2.840.10008.5.1.4.1.1.2"


def answer(uid: str, status: int | None = 0x0000, is_stored: bool = True) -> StoreAnswer:
    return StoreAnswer(InstanceReference(CT, uid), status, is_stored)


@pytest.fixture
def batch(spool: Spool) -> Batch:
    spool.store(header(), part10(b"a"))
    return spool.close(SERIES, NOW)


@pytest.fixture
def deliveries(spool: Spool) -> Deliveries:
    return Deliveries(spool.root)


def record_file(spool: Spool, state: str = "closed") -> Path:
    (path,) = (spool.root / state).glob("*/*/*.jsonl")
    return path


def test_every_answer_is_written_down_with_its_status(spool: Spool, batch: Batch, deliveries: Deliveries) -> None:
    answers = [
        answer("2.25.1"),
        answer("2.25.2", 0xB000),
        answer("2.25.3", 0xA700, False),
        answer("2.25.4", None, False),
    ]
    deliveries.note_answers(batch, PACS, answers)
    lines = [json.loads(line) for line in record_file(spool).read_text().splitlines()]
    assert [(line["sop_instance_uid"], line["status"]) for line in lines] == [
        ("2.25.1", "0000"),
        ("2.25.2", "B000"),
        ("2.25.3", "A700"),
        ("2.25.4", "none"),
    ]
    assert deliveries.record(batch, PACS).stored == {"2.25.1": CT, "2.25.2": CT}


def test_the_last_word_on_an_instance_counts(batch: Batch, deliveries: Deliveries) -> None:
    deliveries.note_answers(batch, PACS, [answer("2.25.1", 0xA700, False), answer("2.25.2")])
    deliveries.note_answers(batch, PACS, [answer("2.25.1")])
    deliveries.note_missing(batch, PACS, {"2.25.2": "0112"}, 1)
    assert deliveries.record(batch, PACS) == DeliveryRecord(
        {"2.25.1": CT}, frozenset({"2.25.2"}), 1, instances={"2.25.1": CT, "2.25.2": CT}
    )
    deliveries.note_answers(batch, PACS, [answer("2.25.2", 0x0111)])
    deliveries.note_missing(batch, PACS, {"2.25.1": "0112"}, 2)
    deliveries.note_refusal(batch, PACS, "no room for this")
    assert deliveries.record(batch, PACS) == DeliveryRecord(
        {"2.25.2": CT}, frozenset({"2.25.1"}), 2, "no room for this", instances={"2.25.1": CT, "2.25.2": CT}
    )


def test_destinations_of_any_name_have_records_of_their_own(batch: Batch, deliveries: Deliveries) -> None:
    names = ["pacs", "../../etc", "PACS", "päcs 1/2", "p\x00cs", "x" * 300]
    deliveries.begin(batch, names)
    for number, name in enumerate(names):
        deliveries.note_answers(batch, name, [answer(f"2.25.{number}")])
    assert deliveries.destinations(batch) == tuple(names)
    assert [list(deliveries.record(batch, name).stored) for name in names] == [[f"2.25.{n}"] for n in range(6)]


def test_records_go_with_the_batch_and_into_an_export(
    spool: Spool, batch: Batch, deliveries: Deliveries, tmp_path: Path
) -> None:
    deliveries.begin(batch, [PACS])
    deliveries.note_answers(batch, PACS, [answer("2.25.1")])
    spool.mark_sent(batch)
    deliveries.note_confirmed(batch, PACS, "commitment", "2.25.9")
    assert deliveries.destinations(batch) == (PACS,)
    assert deliveries.record(batch, PACS).is_confirmed
    spool.release(batch)
    lines = record_file(spool, "done").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["answered", "confirmed"]
    with pytest.raises(FileNotFoundError):
        deliveries.note_confirmed(batch, PACS, "query")

    export(spool.root, SERIES, tmp_path / "copy")
    assert len(list((tmp_path / "copy").glob("*/*.jsonl"))) == 1


def test_a_requeued_batch_begins_a_record_of_its_own_and_keeps_the_earlier_one(
    spool: Spool, batch: Batch, deliveries: Deliveries
) -> None:
    deliveries.note_answers(batch, PACS, [answer("2.25.1")])
    spool.quarantine(batch, "why")
    (again,) = spool.requeue(SERIES, NOW + timedelta(days=1))
    assert deliveries.record(again, PACS) == DeliveryRecord()
    deliveries.note_answers(again, PACS, [answer("2.25.2")])
    assert len(list((spool.root / "closed").glob("*/*/*.jsonl"))) == 2


@pytest.mark.fault(
    "machine",
    "`kill -9`, or a full disk, in the middle of a line of the record of what was sent",
    "that line is passed over, and every other is read",
)
def test_a_torn_line_is_passed_over(spool: Spool, batch: Batch, deliveries: Deliveries) -> None:
    deliveries.note_answers(batch, PACS, [answer("2.25.1"), answer("2.25.2")])
    path = record_file(spool)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        deliveries.note_answers(batch, PACS, [answer("2.25.3")])
        stored = set(deliveries.record(batch, PACS).stored)
        assert {"2.25.3"} <= stored <= {"2.25.1", "2.25.2", "2.25.3"}
        assert length <= len(whole) // 2 + 1 or "2.25.1" in stored
