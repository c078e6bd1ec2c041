"""What the page shows of all series, and that nobody waits long for it."""

import threading
import time
from pathlib import Path

import pytest
from factories import ct_series, part10

from iscl_node.dicom.reading.display import SeriesDescription, read_description
from iscl_node.dicom.reading.header import read_header
from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.page import overview
from iscl_node.pipeline.page.overview import Overview, matching
from iscl_node.store import listing
from iscl_node.store.spool import Spool


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is a new one."""
    monkeypatch.setattr(listing, "_REST_SECONDS", 0.0)
    monkeypatch.setattr(listing, "_REST_RATIO", 0.0)


def stored(spool: Spool, uid: str, **values: object) -> None:
    for dataset in ct_series(count=1, SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.1", **values):
        data = part10(dataset)
        spool.store(read_header(data), data)


def uids(shown: Overview) -> list[str]:
    return [row.series_uid for row in shown.rows()]


def test_rows_are_the_same_list_as_long_as_nothing_changed(spool: Spool) -> None:
    stored(spool, "1.2.1")
    shown = Overview(spool.root, longest_wait_seconds=60)
    before = shown.rows()
    assert shown.rows() is before
    stored(spool, "1.2.2")
    after = shown.rows()
    assert sorted(row.series_uid for row in after) == ["1.2.1", "1.2.2"]
    assert any(row is before[0] for row in after)


@pytest.mark.fault("spool", "the page takes long to look at very many series", "the earlier rows are shown until then")
def test_who_asks_is_shown_the_rows_before_while_newer_ones_are_made(spool: Spool) -> None:
    go_on = threading.Event()

    def describe(path: Path) -> SeriesDescription:
        if "1.2.2" in str(path):
            assert go_on.wait(60)
        return read_description(path)

    stored(spool, "1.2.1")
    shown = Overview(spool.root, describe, longest_wait_seconds=0)
    assert uids(shown) == ["1.2.1"]
    stored(spool, "1.2.2")
    assert uids(shown) == ["1.2.1"]
    assert uids(shown) == ["1.2.1"]
    go_on.set()
    end = time.monotonic() + 60
    while len(shown.rows()) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_rows_that_are_old_are_shown_to_nobody(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_OLDEST_SECONDS", 0.0)
    shown = Overview(spool.root, longest_wait_seconds=0)
    assert uids(shown) == []
    stored(spool, "1.2.1")
    assert uids(shown) == ["1.2.1"]


@pytest.mark.fault(
    "spool", "a spool of very many series is read for the first time", "the page says so, and asks again"
)
def test_who_asks_first_does_not_wait_for_ever(spool: Spool) -> None:
    go_on = threading.Event()

    def describe(path: Path) -> SeriesDescription:
        assert go_on.wait(60)
        return read_description(path)

    stored(spool, "1.2.1")
    shown = Overview(spool.root, describe, first_wait_seconds=0)
    with pytest.raises(RetryLaterError, match="is being read"):
        shown.rows()
    go_on.set()
    shown._first_wait_seconds = 60
    assert uids(shown) == ["1.2.1"]


def test_a_search_sees_no_more_than_who_asks(spool: Spool) -> None:
    stored(spool, "1.2.1", PatientName="Muster^Erika", SeriesDescription="Thorax")
    rows = Overview(spool.root).rows()
    found = {text: (len(matching(rows, text, True)), len(matching(rows, text, False))) for text in ("MUSTER", "thorax")}
    assert found == {"MUSTER": (1, 0), "thorax": (1, 1)}
    assert matching(rows, "thorax nobody", True) == []


def test_what_is_gone_is_not_remembered(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_MOST_GONE", 0)
    stored(spool, "1.2.1")
    shown = Overview(spool.root, longest_wait_seconds=60)
    assert uids(shown) == ["1.2.1"]
    for path in (spool.root / "open" / "1.2.1").iterdir():
        path.unlink()
    assert uids(shown) == []
    assert shown._described == {}
