"""The page of a spool in which something is damaged: it is shown, as far as it can be read, and nothing is raised."""

import errno
import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import ct_series, part10
from starlette.testclient import TestClient

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import CT_IMAGE_STORAGE, Batch, InstanceReference, Peer, StoreAnswer
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.page.decisions import Decisions
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.pipeline.page.overview import Overview, Row
from iscl_node.pipeline.page.validity import Validity
from iscl_node.pipeline.page.viewing import Viewing
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.exams import Exams
from iscl_node.store.records.plan import keep_plan
from iscl_node.store.records.refused_slice import keep_refused
from iscl_node.store.records.waits import Wait, Waits
from iscl_node.store.spool import Spool
from iscl_node.web.access import Access
from iscl_node.web.app import web_app
from iscl_node.web.pages import PageParts, Pages

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
UNDER_WAY, REFUSED = "1.2.31", "1.2.32"
WRONG = (None, 7, -1e400, "text", [], ["x", None, 3], {"name": []}, [[1]], True)
"""What a value of a record may be in the file of another release, or of a person with an editor."""

Damage = Callable[[bytes, random.Random], bytes]


def stored(spool: Spool, uid: str) -> Batch:
    for number, dataset in enumerate(ct_series(count=2, SeriesInstanceUID=uid)):
        dataset.SOPInstanceUID = f"{uid}.{number + 1}"
        data = part10(dataset)
        spool.store(read_header(data), data)
    return spool.close(uid, NOW)


@pytest.fixture
def filled(spool: Spool) -> Path:
    """A spool with a series under way, and one that was refused."""
    batch = stored(spool, UNDER_WAY)
    names = [path.name for path in spool.instances(batch)]
    rule = {"name": "CT", "send_to": ["pacs"], "strengths": [1.0], "source_noise_hu": 12.5, "not_before": "2026-11-22"}
    keep_plan(spool.root, batch, {"rule": rule, "series_uids": ["2.25.1"], "files": names, "notes": ["a note"]})
    for path in spool.instances(batch):
        spool.write_derived(batch, "2.25.1", path.stem, path.read_bytes())
    deliveries = Deliveries(spool.root)
    deliveries.begin(batch, ["pacs"])
    answer = StoreAnswer(InstanceReference(CT_IMAGE_STORAGE, f"{UNDER_WAY}.1"), 0, True)
    deliveries.note_answers(batch, "pacs", [answer])
    deliveries.note_missing(batch, "pacs", {f"{UNDER_WAY}.1": "not found"}, 1)
    Waits(spool.root).note(batch, "pacs", Wait("peer pacs cannot be reached", time.time() + 60))
    Waits(spool.root).note(batch, "", Wait("the disk is full", time.time() + 60))
    exams = Exams(spool.root)
    exams.note(batch, {"model": "M", "kv": 120.0, "noise_hu": 10.0, "body_part": "CHEST"})
    other = stored(spool, REFUSED)
    facts = {"sop_instance_uid": f"{REFUSED}.1", "frame": 0, "boxes": [[1, 2, 3, 4]]}
    keep_refused(spool.root, other, facts, bytes(512))
    spool.quarantine(other, "a region was shifted")
    (spool.root / "incomplete.json").write_text("[]")
    return spool.root


def client(root: Path, metrics: Metrics) -> TestClient:
    shown = Overview(root), Viewing(root), Fleet(root), Validity(root, lambda _: frozenset())
    decisions = Decisions(Spool(root, min_free_bytes=0), lambda _told: None)
    peers = (Peer("pacs", "PACS", "127.0.0.1", 104),)
    parts = PageParts(*shown, decisions, peers, dict, lambda _name: 0.0, {}, "node-1", "1")
    app = web_app(metrics.registry, dict, pages=Pages(parts, Access({})))
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 5000))


def looks(asked: TestClient) -> Iterator[tuple[str, int]]:
    """Every page that reads the spool, each with its status."""
    pages = ["/", "/?q=disk", "/rows", "/quarantine", "/scanners", "/scanners.csv", "/peers"]
    for uid in (UNDER_WAY, REFUSED):
        newest = asked.get(f"/series/{uid}")
        yield f"/series/{uid}", newest.status_code
        if newest.status_code == 200:
            base = newest.url.path
            parts = ("view.json", "validity", "noise/0", "noise/1", "picture")
            pages += [f"{base}/{part}" for part in parts]
            pages += [f"{base}/pixels/{which}/{number}" for which in (0, 1, 2) for number in (0, 1)]
    for page in pages:
        yield page, asked.get(page).status_code


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name not in ("spool.json", "log.key"))


def half(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(max(1, len(data)))]


def flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data or b"x")
    for _ in range(8):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def otherwise(data: bytes, chance: random.Random) -> bytes:
    """The same JSON with a value of another type somewhere; of what is none, something else altogether."""
    lines = []
    for line in data.splitlines() or [b""]:
        try:
            content = json.loads(line)
        except ValueError:
            return b"this is no DICOM file"
        lines.append(json.dumps(changed_somewhere(content, chance)).encode())
    return b"\n".join(lines)


def changed_somewhere(content: object, chance: random.Random) -> object:
    if isinstance(content, dict) and content and chance.random() < 0.9:
        key = chance.choice(sorted(content))
        if chance.random() < 0.2:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: changed_somewhere(content[key], chance)}
    return chance.choice(WRONG)


DAMAGES: dict[str, Damage] = {
    "empty": lambda _data, _chance: b"",
    "half": half,
    "other bytes": flipped,
    "another type": otherwise,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.fault("spool", "a file of the spool is damaged, half written or of a later release", "the page is shown")
def test_the_page_is_shown_whatever_is_damaged(filled: Path, metrics: Metrics, damage: str, tmp_path: Path) -> None:
    for number, path in enumerate(files(filled)):
        for attempt in range(8 if path.suffix in (".json", ".jsonl") and damage == "another type" else 2):
            before = path.read_bytes()
            path.write_bytes(DAMAGES[damage](before, random.Random(f"{number} {attempt}")))
            asked = client(filled, metrics)
            for page, status in looks(asked):
                assert status in (200, 404), (path.relative_to(filled), page, path.read_bytes()[:200])
            path.write_bytes(before)


def test_the_page_is_shown_whatever_is_missing_or_something_else(filled: Path, metrics: Metrics) -> None:
    everything = sorted(path for path in filled.rglob("*") if path.name != "spool.json")
    for path in everything:
        for become in (lambda _: None, Path.mkdir, Path.touch, lambda each: each.symlink_to("/nowhere")):
            away = filled.parent / "away"
            shutil.move(path, away)
            become(path)
            for page, status in looks(client(filled, metrics)):
                assert status in (200, 404), (path.relative_to(filled), page)
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            path.unlink(missing_ok=True)
            shutil.move(away, path)


def test_a_file_of_the_outbox_that_is_no_dicom_is_left_out(filled: Path, metrics: Metrics) -> None:
    (damaged, _) = sorted((filled / "outbox" / UNDER_WAY).rglob("*.dcm"))
    damaged.write_bytes(b"this is no DICOM file")
    answer = client(filled, metrics).get(f"/series/{UNDER_WAY}")
    assert answer.status_code == 200
    assert re.search("1 instance[^.]*cannot be read", answer.text)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes folders with some name unreadable, for root, too."""

    def refuse(name: str) -> None:
        listed = os.scandir

        def scandir(path: Path) -> object:
            if Path(path).name == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return refuse


@pytest.mark.fault("spool", "a folder of the spool cannot be read", "the page shows the series, and why")
def test_a_series_that_cannot_be_read_is_shown_with_the_reason(
    filled: Path, metrics: Metrics, unreadable: Callable[[str], None]
) -> None:
    key = next((filled / "quarantine" / REFUSED).iterdir()).name
    for name in (REFUSED, key):
        unreadable(name)
        asked = client(filled, metrics)
        for page in ("/quarantine", "/rows?step=quarantine", f"/series/{REFUSED}"):
            assert "cannot be read: Permission denied" in asked.get(page).text


@pytest.mark.parametrize("state", ["quarantine", "closed", "open"])
def test_a_spool_that_cannot_be_read_is_told(
    filled: Path, metrics: Metrics, unreadable: Callable[[str], None], state: str
) -> None:
    unreadable(state)
    answer = client(filled, metrics).get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "the spool cannot be read now: Permission denied" in answer.text
    assert "<h1>" in answer.text
    assert client(filled, metrics).get("/").text == "the spool cannot be read now: Permission denied"


def test_a_spool_that_takes_long_to_read_is_asked_for_again(
    filled: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def still_reading(_: Overview) -> list[Row]:
        raise RetryLaterError("the spool is being read")

    monkeypatch.setattr(Overview, "rows", still_reading)
    answer = client(filled, metrics).get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert 'http-equiv="refresh"' in answer.text
    assert "the spool is being read" in answer.text


@pytest.mark.fault("spool", "the node's list of incomplete series is damaged", "the page shows every open series")
def test_open_series_are_shown_without_the_list_of_what_they_wait_for(filled: Path, metrics: Metrics) -> None:
    data = part10(ct_series(count=1, SeriesInstanceUID="1.2.33")[0])
    Spool(filled, min_free_bytes=0).store(read_header(data), data)
    for content in ("{torn", "[null, {}]", '[{"series_instance_uid": 3}]', "7"):
        (filled / "incomplete.json").write_text(content)
        assert "1.2.33" in client(filled, metrics).get("/rows").text
