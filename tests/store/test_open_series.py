"""What is here of an open series, and what is told of those that wait."""

import os

import pytest
from spool_contents import NOW, SERIES, arrival, header, part10

from iscl_node.domain import IncompleteSeries
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.spool import Spool


@pytest.fixture
def open_series(spool: Spool) -> OpenSeries:
    return OpenSeries(spool.root)


def test_instances_of_now_and_of_earlier_batches(spool: Spool, open_series: OpenSeries) -> None:
    for number, end in enumerate([spool.release, lambda batch: spool.quarantine(batch, "why"), lambda batch: None]):
        spool.store(header(f"1.2.3.{number}"), part10(b"a"))
        end(spool.close(SERIES, NOW))
    assert open_series.instances(SERIES) == {}
    spool.store(header("1.2.3.9"), part10(b"a"))
    assert open_series.instances(SERIES) == {"1.2.3.9.dcm": spool.root / "open" / SERIES}
    earlier = open_series.earlier_instances(SERIES)
    assert {name: folder.parents[1].name for name, folder in earlier.items()} == {
        "1.2.3.0.dcm": "done",
        "1.2.3.1.dcm": "quarantine",
        "1.2.3.2.dcm": "closed",
    }


def test_the_last_arrival(spool: Spool, open_series: OpenSeries) -> None:
    assert open_series.last_arrival(SERIES) is None
    spool.store(header(), part10(b"a"))
    assert open_series.last_arrival(SERIES) == arrival(spool)
    os.utime(spool.root / "open" / SERIES, (1.5, 1.5))
    assert open_series.last_arrival(SERIES) == 1.5


def test_what_waits_is_told_as_long_as_it_is_open(spool: Spool, open_series: OpenSeries) -> None:
    assert open_series.incomplete() == []
    spool.store(header(), part10(b"a"))
    waits = IncompleteSeries(SERIES, "1 slice missing", 1.5, is_held=False)
    open_series.note_incomplete([waits, IncompleteSeries("1.2.4", "2 slices missing", 2.5, is_held=True)])
    assert open_series.incomplete() == [waits]
    spool.close(SERIES, NOW)
    assert open_series.incomplete() == []
