"""What was measured stays, is told once for each batch, and is of no patient."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from iscl_node.domain import Batch
from iscl_node.store.records.exams import Exams

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)


def batch(number: int) -> Batch:
    return Batch(f"1.2.3.{number}", "20261122T120000.000000Z")


def test_a_batch_is_told_once_with_what_came_later(tmp_path: Path) -> None:
    exams = Exams(tmp_path)
    with time_machine.travel(NOW, tick=False):
        exams.note(batch(1), {"model": "M", "noise_hu": 20})
        exams.note(batch(2), {"model": "M", "noise_hu": 30})
    with time_machine.travel(NOW + timedelta(minutes=5), tick=False):
        exams.note(batch(1), {"model": "M", "noise_hu": 21})  # a step that is done twice
        exams.note(batch(1), {"derived_noise_hu": 10})
    first, second = exams.since(LONG_AGO)
    assert (first["noise_hu"], first["derived_noise_hu"], first["time"]) == (21, 10, NOW.isoformat())
    assert second["noise_hu"] == 30


def test_months_and_workers_come_together(tmp_path: Path) -> None:
    ours, theirs = Exams(tmp_path, "node-1"), Exams(tmp_path, "node-2")
    with time_machine.travel(datetime(2026, 10, 31, 23, 59, tzinfo=UTC), tick=False):
        ours.note(batch(1), {"noise_hu": 20})
    with time_machine.travel(datetime(2026, 11, 1, 0, 1, tzinfo=UTC), tick=False):
        theirs.note(batch(1), {"derived_noise_hu": 10})
        theirs.note(batch(2), {"noise_hu": 30})
    both, single = ours.since(LONG_AGO)
    assert (both["noise_hu"], both["derived_noise_hu"], both["time"][:10]) == (20, 10, "2026-10-31")
    assert [each["noise_hu"] for each in ours.since(datetime(2026, 11, 1, tzinfo=UTC))] == [single["noise_hu"]]
    assert len(list((tmp_path / "exams").iterdir())) == 2


def test_no_uid_is_written(tmp_path: Path) -> None:
    Exams(tmp_path).note(batch(4711), {"noise_hu": 20})
    (file,) = (tmp_path / "exams").iterdir()
    assert "4711" not in file.read_text()


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    exams = Exams(tmp_path)
    exams.note(batch(1), {"noise_hu": 20})
    (file,) = (tmp_path / "exams").iterdir()
    with file.open("a") as stream:
        stream.write('{"exam": "ab", "noi\n[1]\n{"time": 3, "exam": "x"}\n')
    assert len(Exams(tmp_path).since(LONG_AGO)) == 1


@pytest.mark.fault("spool", "what was measured of a series cannot be written", "the series goes on, and it is logged")
def test_a_disk_that_refuses_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iscl_node.store.records.exams.append_synced", full)
    exams = Exams(tmp_path)
    exams.note(batch(1), {"noise_hu": 20})
    assert exams.since(LONG_AGO) == []
