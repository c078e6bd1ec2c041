"""Answers are on disk while the destination still sends further ones."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, header, part10
from surroundings import REPOSITORY

from iscl_node.domain import Batch, InstanceReference, StoreAnswer
from iscl_node.store.records import answer_log
from iscl_node.store.records.answer_log import AT_A_TIME, recorded
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

PACS = "pacs"

ANSWERED = """
import os, signal, sys
from pathlib import Path
from iscl_node.domain import Batch, InstanceReference, StoreAnswer
from iscl_node.store.records.answer_log import recorded
from iscl_node.store.records.deliveries import Deliveries
with recorded(Deliveries(Path(sys.argv[1])), Batch(sys.argv[2], sys.argv[3]), "pacs") as answered:
    for number in range(int(sys.argv[4])):
        answered(StoreAnswer(InstanceReference("1.2", f"2.25.{number}"), 0, True))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def batch(spool: Spool) -> Batch:
    spool.store(header(), part10(b"a"))
    return spool.close(SERIES, NOW)


def answer(number: int) -> StoreAnswer:
    return StoreAnswer(InstanceReference("1.2", f"2.25.{number}"), 0, True)


@pytest.mark.fault(
    "delivery",
    "`kill -9` in the middle of an association with a destination",
    "what it answered is on record and not sent again, but for the instance being sent; after a power cut only what it "
    "answered more than 8 instances, or a second, ago",
)
def test_answers_survive_a_kill(spool: Spool, batch: Batch) -> None:
    place = [str(spool.root), batch.series_instance_uid, batch.key, str(2 * AT_A_TIME + 3)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", ANSWERED, *place], env=environment, check=False)
    assert killed.returncode == -9
    stored = Deliveries(spool.root).record(batch, PACS).stored
    assert set(stored) == {f"2.25.{number}" for number in range(2 * AT_A_TIME + 3)}


def test_each_eighth_answer_syncs_all_before(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    note, synced = Deliveries.note_answers, []

    def noted(*arguments: object, is_synced: bool) -> None:
        note(*arguments, is_synced=is_synced)  # type: ignore[arg-type]
        if is_synced:
            synced.append(len(Deliveries(spool.root).record(batch, PACS).stored))

    monkeypatch.setattr(Deliveries, "note_answers", noted)
    monkeypatch.setattr(answer_log, "LONGEST_SECONDS", 3600)
    with recorded(Deliveries(spool.root), batch, PACS) as answered:
        for number in range(2 * AT_A_TIME + 3):
            answered(answer(number))
    assert synced == [AT_A_TIME, 2 * AT_A_TIME, 2 * AT_A_TIME + 3]


def test_an_answer_waits_for_others_only_so_long(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    note = Deliveries.note_answers

    def noted(*arguments: object, is_synced: bool) -> None:
        note(*arguments, is_synced=is_synced)  # type: ignore[arg-type]
        if is_synced:
            synced.set()

    monkeypatch.setattr(Deliveries, "note_answers", noted)
    monkeypatch.setattr(answer_log, "LONGEST_SECONDS", 0.01)
    deliveries = Deliveries(spool.root)
    with recorded(deliveries, batch, PACS) as answered:
        answered(answer(1))
        assert synced.wait(60)
        assert set(deliveries.record(batch, PACS).stored) == {"2.25.1"}
        answered(answer(2))
    assert set(deliveries.record(batch, PACS).stored) == {"2.25.1", "2.25.2"}


def test_answers_are_kept_while_the_disk_is_full(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    deliveries = Deliveries(spool.root)
    with recorded(deliveries, batch, PACS) as answered:
        with monkeypatch.context() as patch:
            patch.setattr(Deliveries, "note_answers", full)
            for number in range(AT_A_TIME):
                answered(answer(number))
        assert deliveries.record(batch, PACS).stored == {}
    assert len(deliveries.record(batch, PACS).stored) == AT_A_TIME


def test_at_the_end_a_refusal_of_the_disk_is_told(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Deliveries, "note_answers", full)
    with pytest.raises(OSError, match="No space"), recorded(Deliveries(spool.root), batch, PACS) as answered:
        answered(answer(1))


def test_no_thread_is_left(tmp_path: Path, spool: Spool, batch: Batch) -> None:
    before = threading.active_count()
    with recorded(Deliveries(spool.root), batch, PACS) as answered:
        for number in range(2 * AT_A_TIME + 1):
            answered(answer(number))
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert threading.active_count() <= before
