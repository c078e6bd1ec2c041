"""What it costs that an instance is on disk before its sender gets an answer; the ratio is in brackets."""

from itertools import count
from pathlib import Path

import pytest
from factories import ROOT, ct_dataset, part10
from pytest_benchmark.fixture import BenchmarkFixture

from iscl_node.domain import InstanceHeader
from iscl_node.store.spool import Spool

_NUMBERS = count(1)


@pytest.mark.benchmark(group="one instance into the spool")
@pytest.mark.parametrize("synced", [True, False], ids=["fsync", "no-fsync"])
def test_store(benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool) -> None:
    if not synced:
        monkeypatch.setattr("os.fsync", lambda _descriptor: None)
    spool, data = Spool.open(tmp_path / "spool", 0), part10(ct_dataset())

    def store() -> None:
        uid = f"{ROOT}.3.{next(_NUMBERS)}"
        assert spool.store(InstanceHeader("1.2.840.10008.5.1.4.1.1.2", uid, f"{ROOT}.1", f"{ROOT}.2", "1.2"), data)

    benchmark.pedantic(store, rounds=50, warmup_rounds=5)
