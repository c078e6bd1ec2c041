"""Why a batch waits, as it is noted for people."""

from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, header, part10

from iscl_node.domain import Batch
from iscl_node.store.records.waits import Wait, Waits, read_wait, wait_file
from iscl_node.store.spool import Spool

WAIT = Wait("no connection", 12.5)


@pytest.fixture
def batch(spool: Spool) -> Batch:
    spool.store(header(), part10(b"a"))
    return spool.close(SERIES, NOW)


def path_of(spool: Spool, batch: Batch, destination: str, state: str = "closed") -> Path:
    return spool.root / state / SERIES / batch.key / wait_file(batch, destination)


@pytest.mark.parametrize("destination", ["", "pacs", "../../etc"])
def test_a_wait_is_noted_and_ended(spool: Spool, batch: Batch, destination: str) -> None:
    waits = Waits(spool.root)
    waits.end(batch, destination)
    waits.note(batch, destination, WAIT)
    assert read_wait(path_of(spool, batch, destination)) == WAIT
    waits.end(batch, destination)
    assert read_wait(path_of(spool, batch, destination)) is None


def test_it_goes_with_the_batch(spool: Spool, batch: Batch) -> None:
    waits = Waits(spool.root)
    waits.note(batch, "pacs", WAIT)
    spool.mark_sent(batch)
    assert read_wait(path_of(spool, batch, "pacs", "sent")) == WAIT
    waits.end(batch, "pacs")
    assert read_wait(path_of(spool, batch, "pacs", "sent")) is None


def test_what_cannot_be_noted_hinders_nothing(spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iscl_node.store.records.waits.replace_synced", full)
    Waits(spool.root).note(batch, "pacs", WAIT)
    assert not path_of(spool, batch, "pacs").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"reason": "x"}', '{"reason": "x", "until": "soon"}'])
def test_a_damaged_one_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.wait.json"
    path.write_text(content)
    assert read_wait(path) is None
