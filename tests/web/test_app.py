"""What a monitoring system and a load balancer see."""

import pytest
from starlette.testclient import TestClient

from iscl_node.metrics import Metrics
from iscl_node.web.app import web_app


@pytest.fixture
def facts() -> dict[str, bool]:
    return {"spool_has_space": True, "housekeeping_runs": True}


@pytest.fixture
def client(metrics: Metrics, facts: dict[str, bool]) -> TestClient:
    return TestClient(web_app(metrics.registry, lambda: facts))


def test_metrics_are_in_the_text_format(client: TestClient, metrics: Metrics) -> None:
    metrics.received_instances.labels("CT1", "0x0000").inc(3)

    response = client.get("/metrics")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert 'iscl_node_received_instances_total{calling_ae_title="CT1",status="0x0000"} 3.0' in response.text


def test_alive_while_it_answers(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"alive": True}


def test_ready_when_everything_holds(client: TestClient) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"spool_has_space": True, "housekeeping_runs": True})


@pytest.mark.fault("machine", "the spool has no space", "`/readyz` answers 503 and says so")
def test_not_ready_when_one_thing_does_not_hold(client: TestClient, facts: dict[str, bool]) -> None:
    facts["spool_has_space"] = False
    response = client.get("/readyz")
    assert (response.status_code, response.json()["spool_has_space"]) == (503, False)


def test_a_note_is_told_and_keeps_nobody_away(metrics: Metrics, facts: dict[str, bool]) -> None:
    client = TestClient(web_app(metrics.registry, lambda: facts, lambda: {"log_is_written": False}))
    response = client.get("/readyz")
    assert (response.status_code, response.json()["log_is_written"]) == (200, False)


def test_nothing_else_is_there_and_nothing_can_be_written(client: TestClient) -> None:
    assert client.get("/admin").status_code == 404
    assert client.post("/healthz").status_code == 405
