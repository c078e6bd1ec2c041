"""What is told of all series, from the spool alone."""

import json
from datetime import timedelta

import pytest
from spool_contents import NOW, SERIES, header, part10

from iscl_node.domain import CT_IMAGE_STORAGE, Batch, InstanceReference, SeriesState, StoreAnswer
from iscl_node.store import listing
from iscl_node.store.batches.set_aside import reason_class
from iscl_node.store.listing import ListedBatch, Listing
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.plan import keep_plan
from iscl_node.store.spool import Spool


class Clock:
    """Every look is at another time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def closed(spool: Spool, series: str = SERIES, number: int = 0) -> Batch:
    spool.store(header(f"{series}.1", series=series), part10(b"a"))
    return spool.close(series, NOW + timedelta(minutes=number))


def only(spool: Spool) -> ListedBatch:
    (listed,) = Listing(spool.root).batches()
    return listed


def test_every_state_is_told(spool: Spool) -> None:
    spool.store(header("1.2.9.1", series="1.2.9"), part10(b"a"))
    ends = {"1.2.4": spool.mark_sent, "1.2.5": spool.release}
    for uid, end in ends.items():
        end(closed(spool, uid))
    spool.quarantine(closed(spool, "1.2.6"), "a slice is missing")
    spool.ignore(closed(spool, "1.2.7"), "a localizer")
    closed(spool)
    told = {each.batch.series_instance_uid: (each.state.value, each.reason) for each in Listing(spool.root).batches()}
    assert told == {
        "1.2.9": ("open", ""),
        "1.2.3": ("closed", ""),
        "1.2.4": ("sent", ""),
        "1.2.5": ("done", ""),
        "1.2.6": ("quarantine", "a slice is missing"),
        "1.2.7": ("ignored", "a localizer"),
    }


def test_plan_and_what_is_derived_are_told(spool: Spool) -> None:
    batch = closed(spool)
    keep_plan(spool.root, batch, {"rule": {"name": "CT"}, "series_uids": ["2.25.1"], "files": ["1.2.3.1.dcm"]})
    spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    listed = only(spool)
    assert (listed.plan["rule"]["name"], dict(listed.derived)) == ("CT", {"2.25.1": 1})
    assert listed.instances == ("1.2.3.1.dcm",)


def test_each_destination_is_told_with_what_it_answered(spool: Spool) -> None:
    batch, deliveries = closed(spool), Deliveries(spool.root)
    deliveries.begin(batch, ["pacs", "workstation"])
    stored = [StoreAnswer(InstanceReference(CT_IMAGE_STORAGE, f"2.25.{n}"), 0, True) for n in range(3)]
    deliveries.note_answers(batch, "pacs", stored)
    deliveries.note_confirmed(batch, "pacs", "commitment", "1.2.3")
    deliveries.note_refusal(batch, "workstation", "no such SOP Class")
    pacs, workstation = only(spool).deliveries
    assert (pacs.destination, pacs.stored, pacs.confirmed_by) == ("pacs", 3, "commitment")
    assert [(each["event"], each["count"]) for each in pacs.events] == [("answered", 3), ("confirmed", 1)]
    assert workstation.refusal == "no such SOP Class"


@pytest.mark.fault("spool", "what lies beside a batch is damaged", "the page shows the batch without it")
def test_damaged_facts_are_none(spool: Spool) -> None:
    batch = closed(spool)
    folder = spool.root / "closed" / SERIES / batch.key
    (folder / f"{batch.key}.plan.json").write_bytes(b"{torn")
    (folder / f"{batch.key}.destinations.json").write_bytes(json.dumps(["no object"]).encode())
    assert (only(spool).plan, only(spool).deliveries) == ({}, ())


def test_links_are_not_followed(spool: Spool, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "20261122T235959.123456Z").mkdir()
    (spool.root / "done" / "1.2.8").symlink_to(elsewhere)
    assert Listing(spool.root).batches() == ()


def test_a_snapshot_is_shown_until_it_rested(spool: Spool, clock: Clock) -> None:
    looked = Listing(spool.root, clock)
    assert looked.batches() == ()
    closed(spool)
    assert looked.batches() == ()
    clock.seconds = 1.1
    assert len(looked.batches()) == 1


def test_what_has_ended_is_read_once(spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.release(closed(spool))
    looked = Listing(spool.root, clock)
    before = looked.batches()
    read: list[object] = []
    known = Listing._batch
    monkeypatch.setattr(listing.Listing, "_batch", lambda *a: read.append(a) or known(*a))
    clock.seconds = 100
    assert looked.batches() == before
    assert read == []
    spool.store(header("1.2.3.2"), part10(b"later"))
    spool.release(spool.close(SERIES, NOW + timedelta(minutes=1)))
    clock.seconds = 200
    assert len(looked.batches()) == 2
    assert {each.state for each in looked.batches()} == {SeriesState.DONE}


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("2 patients in one series: Patient ID and Patient's Name differ", "identity"),
        ("2 frames of reference in one series: ...", "identity"),
        ("two images have the same SOP Instance UID, but differ in Pixel Data", "conflict"),
        ("incomplete at the time-out: 2 slices are missing", "incomplete"),
        ("no rule matches this series; add one under [[rules]] and requeue", "settings"),
        ("peer pacs refused with status A900", "destination"),
        ("the values are no Hounsfield units: slope 0", "content"),
        ("the pixels cannot be decoded (RuntimeError)", "pixels"),
        ("unforeseen fault: KeyError; the log says where", "unforeseen"),
        ("a person put it here", "other"),
    ],
)
def test_a_reason_has_one_of_few_classes(reason: str, name: str) -> None:
    assert reason_class(reason) == name
