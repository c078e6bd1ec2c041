"""Noise and dose on the page."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from iscl_node.domain import Batch
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.store.records.exams import Exams
from iscl_node.web.access import Access, Need
from iscl_node.web.frame import Frame
from iscl_node.web.scanners import Scanners

FACTS = {"manufacturer": "Maker", "model": "<M>", "station": "CT1", "body_part": "CHEST", "kernel": "B30f", "kv": 120.0}


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    scanners = Scanners(Fleet(tmp_path), Frame("node-1", "1.0", has_users=False))
    guarded = Access({}).guarded
    routes = [
        Route("/scanners", guarded(Need.LOOK, scanners.page)),
        Route("/scanners.csv", guarded(Need.LOOK, scanners.table)),
    ]
    return TestClient(Starlette(routes=routes), base_url="http://localhost", client=("127.0.0.1", 5000))


def test_nothing_measured_is_told(client: TestClient) -> None:
    assert "Nothing has been measured yet" in client.get("/scanners").text


def test_noise_and_dose_are_told_and_drawn(client: TestClient, tmp_path: Path) -> None:
    exams = Exams(tmp_path)
    for number in range(3):
        batch = Batch(f"1.2.{number}", "20261122T120000.000000Z")
        exams.note(batch, {**FACTS, "noise_hu": 10.0 + number, "ctdivol_mgy": 7.5, "diameter_mm": 281.0})
        exams.note(batch, {"derived_noise_hu": 5.0, "drift_hu": -0.25})
    text = client.get("/scanners?days=7").text
    for told in ("11.0 HU", "5.0 HU", "-0.25 HU", "7.5 mGy", "281 mm", "Maker &lt;M&gt; CT1", "No scanner got noisier"):
        assert told in text, told
    assert "<polyline" in text
    assert "<M>" not in text
    assert 'option value="30" selected' in client.get("/scanners?days=12345").text
    assert "Maker" not in client.get("/scanners?scanner=other").text.split("CSV</a>")[1]


def test_the_table_is_a_file(client: TestClient, tmp_path: Path) -> None:
    Exams(tmp_path).note(Batch("1.2.3", "20261122T120000.000000Z"), {**FACTS, "noise_hu": 10.0})
    answer = client.get("/scanners.csv?days=90")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.text.splitlines()[0].startswith("time,manufacturer,model,station")
    assert "4711" not in answer.text
    assert len(answer.text.splitlines()) == 2
