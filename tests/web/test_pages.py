"""What the page shows to whom, and what it does for whom."""

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from factories import ct_series
from factories import part10 as part10_of
from starlette.testclient import TestClient

from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Batch, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.page.decisions import Decisions
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.pipeline.page.overview import Overview
from iscl_node.pipeline.page.validity import Validity
from iscl_node.pipeline.page.viewing import Viewing
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.plan import keep_plan
from iscl_node.store.records.refused_slice import keep_refused
from iscl_node.store.records.waits import Wait, Waits
from iscl_node.store.spool import Spool
from iscl_node.web.access import SESSION_COOKIE, Access, Need
from iscl_node.web.app import web_app
from iscl_node.web.pages import PageParts, Pages
from iscl_node.web.passwords import password_hash

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HASH = password_hash("correct horse")
CERTIFICATES = {"scp": 4102444800.0, "peer vault": 0.0, "peer old": 1e9}
PACS = Peer("pacs", "PACS", "127.0.0.1", 4242)

Ask = Callable[..., TestClient]


def stored(spool: Spool, count: int = 3, **overrides: object) -> Batch:
    """A closed batch of a generated series."""
    series = ct_series(count=count, PatientName="Muster^Erika", PatientID="P4711", **overrides)
    for dataset in series:
        data = part10_of(dataset)
        spool.store(read_header(data), data)
    return spool.close(str(series[0].SeriesInstanceUID), NOW)


@pytest.fixture
def batch(spool: Spool) -> Batch:
    return stored(spool)


def echo(name: str) -> float:
    raise RetryLaterError(f"peer {name} cannot be reached")


@pytest.fixture
def pages(spool: Spool) -> Pages:
    decisions = Decisions(spool, lambda _told: None, ["pacs"])
    settings = {"scp": {"ae_title": "ISCL_NODE"}}
    shown = Overview(spool.root), Viewing(spool.root), Fleet(spool.root), Validity(spool.root)
    parts = PageParts(*shown, decisions, (PACS,), lambda: CERTIFICATES, echo, settings, "node-1", "1.0")
    return Pages(parts, Access({"anna": HASH}, frozenset({"node.hospital"})))


@pytest.fixture
def ask(pages: Pages, metrics: Metrics) -> Ask:
    def client(address: str = "127.0.0.1", host: str = "localhost") -> TestClient:
        app = web_app(metrics.registry, dict, pages=pages)
        return TestClient(app, base_url=f"http://{host}", client=(address, 5000), follow_redirects=False)

    return client


def logged_in(client: TestClient) -> str:
    """Log in, and return the token of the session's forms."""
    answer = client.post("/login", data={"user": "anna", "password": "correct horse", "next": "/"})
    assert answer.status_code == 303
    found = re.search(r'name="token" value="([^"]+)"', client.get("/").text)
    assert found is not None
    return found[1]


def page_of(batch: Batch) -> str:
    return f"/series/{batch.series_instance_uid}/{batch.key}"


# Who may see what


def test_every_route_says_what_it_asks_of_its_visitor(pages: Pages) -> None:
    needs = [(route.methods or set(), getattr(route.endpoint, "need", None)) for route in pages.routes()]
    assert None not in [need for _, need in needs]
    posts = {need for methods, need in needs if "POST" in methods}
    assert posts == {Need.ACT, Need.PUBLIC}  # the log-in


def test_from_this_machine_one_may_look_and_sees_no_identity(ask: Ask, batch: Batch) -> None:
    client = ask()
    for address in ("/", page_of(batch), "/rows?q=Muster", "/quarantine"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert not re.search("Muster, Erika|P4711", answer.text)
    assert "1 series" in client.get("/").text
    assert "0 series" in client.get("/rows?q=P4711").text  # nor by searching


def test_who_logged_in_sees_and_finds_patients(ask: Ask, batch: Batch) -> None:
    client = ask()
    logged_in(client)
    assert "Muster, Erika" in client.get(page_of(batch)).text
    assert "1 series" in client.get("/rows?q=muster").text


@pytest.mark.parametrize(
    "path", ["/", "/quarantine", "/peers", "/scanners", "/scanners.csv", "/settings", "/rows", "page", "page/view.json"]
)
@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}])
def test_from_elsewhere_nothing_is_shown(ask: Ask, batch: Batch, path: str, forged: dict[str, str]) -> None:
    answer = ask("10.0.0.7").get(path.replace("page", page_of(batch)), headers={"Accept": "text/html", **forged})
    assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/login")


def test_what_came_by_a_proxy_on_this_machine_is_from_elsewhere(ask: Ask) -> None:
    assert ask().get("/", headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:9464", "", "[", "/@localhost"]
)
def test_another_name_is_refused(ask: Ask, host: str) -> None:
    answer = ask().get("/", headers={"Host": host})
    assert answer.status_code in (400, 421)


@pytest.mark.parametrize(
    "host", ["localhost:9464", "127.0.0.1", "[::1]:9464", "10.1.1.1", "NODE.hospital", "node.hospital."]
)
def test_our_names_and_addresses_are_taken(pages: Pages, host: str) -> None:
    assert pages._access.is_our_host(host)


def test_a_forged_host_does_not_change_which_route_is_meant(ask: Ask) -> None:
    client = ask("10.0.0.7")
    for host in ("localhost/login?", "localhost/static/page.css#", "127.0.0.1/healthz?x="):
        assert client.get("/settings", headers={"Host": host}).status_code in (400, 401, 421)


def test_monitoring_is_asked_by_any_name(ask: Ask) -> None:
    client = ask("10.0.0.7", "prometheus-target")
    assert [client.get(path).status_code for path in ("/metrics", "/healthz", "/readyz")] == [200, 200, 200]


def test_browsers_load_nothing_from_elsewhere_and_keep_nothing(ask: Ask) -> None:
    answer = ask().get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"https?://|<script>| style=| on[a-z]+=", answer.text)


# Log-in


@pytest.mark.parametrize(("user", "password"), [("anna", "wrong"), ("anna", ""), ("nobody", "correct horse"), ("", "")])
def test_a_wrong_password_opens_nothing(ask: Ask, user: str, password: str) -> None:
    client = ask("10.0.0.7")
    assert client.post("/login", data={"user": user, "password": password}).status_code == 403
    assert client.get("/").status_code == 401


def test_many_wrong_passwords_are_slowed_down(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscl_node.web.access.is_password", lambda *_: False)
    client = ask()
    answers = [client.post("/login", data={"user": "anna", "password": "x"}).status_code for _ in range(12)]
    assert answers == [403] * 10 + [429] * 2


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_log_in_leads_to_us_only(ask: Ask, target: str) -> None:
    answer = ask().post("/login", data={"user": "anna", "password": "correct horse", "next": target})
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", SESSION_COOKIE))


def test_after_the_log_out_the_cookie_is_worth_nothing(ask: Ask) -> None:
    client = ask("10.0.0.7")
    token, cookie = logged_in(client), dict(client.cookies)
    assert client.post("/logout", data={"token": token}).status_code == 303
    client.cookies.update(cookie)
    assert client.get("/").status_code == 401


# Acting


@pytest.mark.parametrize("action", ["requeue", "redo", "resend", "release", "export"])
def test_without_a_log_in_nothing_is_done(ask: Ask, spool: Spool, batch: Batch, action: str) -> None:
    spool.quarantine(batch, "why")
    answer = ask().post(f"{page_of(batch)}/{action}", data={"confirmed": "yes", "token": ""})
    assert answer.status_code == 401
    assert len(spool.quarantined()) == 1


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("guessed", {}),
        (None, {"Origin": "https://evil.example"}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_of_another_page_does_nothing(
    ask: Ask, spool: Spool, batch: Batch, token: str | None, headers: dict[str, str]
) -> None:
    spool.quarantine(batch, "why")
    client = ask()
    good = logged_in(client)
    data = {"token": good if token is None else token}
    assert client.post(f"{page_of(batch)}/requeue", data=data, headers=headers).status_code == 403
    assert len(spool.quarantined()) == 1


def test_requeue_gives_another_try_and_says_who(ask: Ask, spool: Spool, batch: Batch) -> None:
    spool.quarantine(batch, "why")
    client = ask()
    answer = client.post(f"{page_of(batch)}/requeue", data={"token": logged_in(client)})
    assert (answer.status_code, len(spool.closed_batches())) == (303, 1)
    (line,) = (spool.root / "actions.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["user"]) == ("requeued", "anna")
    assert batch.series_instance_uid not in line


def delivered(spool: Spool, batch: Batch) -> None:
    Deliveries(spool.root).begin(batch, ["pacs"])
    (made,) = ct_series(count=1, SeriesInstanceUID="2.25.1")
    spool.write_derived(batch, "2.25.1", str(made.SOPInstanceUID), part10_of(made))
    spool.release(batch)


def test_redo_makes_a_delivered_series_anew_and_says_who(ask: Ask, spool: Spool, batch: Batch) -> None:
    delivered(spool, batch)
    client = ask()
    token = logged_in(client)
    assert "Resend" in client.get(page_of(batch)).text
    answer = client.post(f"{page_of(batch)}/redo", data={"token": token})
    (again,) = spool.closed_batches()
    assert (answer.status_code, again > batch) == (303, True)
    assert "Redo" not in client.get(page_of(again)).text
    assert client.post(f"{page_of(again)}/redo", data={"token": token}).status_code == 503  # it is on its way
    assert '"event": "redone", "user": "anna"' in (spool.root / "actions.jsonl").read_text()


@pytest.mark.parametrize(("destination", "status"), [("", 303), ("pacs", 303), ("other", 409)])
def test_resend_sends_a_delivered_series_once_more(
    ask: Ask, spool: Spool, batch: Batch, destination: str, status: int
) -> None:
    delivered(spool, batch)
    client = ask()
    data = {"token": logged_in(client), "destination": destination}
    assert client.post(f"{page_of(batch)}/resend", data=data).status_code == status
    assert spool.closed_batches() == ([batch] if status == 303 else [])
    assert "once more" in client.get(page_of(batch)).text or status == 409
    assert '"event": "resent", "user": "anna"' in (spool.root / "actions.jsonl").read_text()


def test_what_is_not_delivered_is_not_made_anew(ask: Ask, spool: Spool, batch: Batch) -> None:
    spool.quarantine(batch, "why")
    client = ask()
    data = {"token": logged_in(client)}
    answers = [client.post(f"{page_of(batch)}/{action}", data=data).status_code for action in ("redo", "resend")]
    assert answers == [409, 409]


def test_release_deletes_only_when_confirmed(ask: Ask, spool: Spool, batch: Batch) -> None:
    spool.quarantine(batch, "why")
    client = ask()
    token = logged_in(client)
    assert client.post(f"{page_of(batch)}/release", data={"token": token}).status_code == 400
    assert len(spool.quarantined()) == 1
    answer = client.post(f"{page_of(batch)}/release", data={"token": token, "confirmed": "yes"})
    assert (answer.status_code, spool.quarantined()) == (303, [])
    assert '"anna"' in (spool.root / "releases.jsonl").read_text()


def test_what_is_not_in_quarantine_cannot_be_released(ask: Ask, spool: Spool, batch: Batch) -> None:
    client = ask()
    data = {"token": logged_in(client), "confirmed": "yes"}
    assert client.post(f"{page_of(batch)}/release", data=data).status_code == 409
    assert spool.closed_batches() == [batch]


def test_export_is_a_zip_of_all_that_is_here(ask: Ask, batch: Batch) -> None:
    client = ask()
    answer = client.post(f"{page_of(batch)}/export", data={"token": logged_in(client)})
    assert answer.status_code == 200
    assert answer.content.startswith(b"PK")
    assert answer.content.count(b".dcm") >= 3


@pytest.mark.fault("machine", "an action of the page cannot be recorded", "it is not done, and the page says so")
def test_what_cannot_be_recorded_is_not_done(
    ask: Ask, spool: Spool, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    spool.quarantine(batch, "why")
    client = ask()
    token = logged_in(client)
    monkeypatch.setattr("iscl_node.pipeline.page.decisions.note_action", full)
    answers = [
        client.post(f"{page_of(batch)}/{action}", data={"token": token, "confirmed": "yes"}).status_code
        for action in ("requeue", "redo", "resend", "release", "export")
    ]
    assert answers == [503] * 5
    assert len(spool.quarantined()) == 1


def test_echo_tells_why_a_peer_does_not_answer(ask: Ask) -> None:
    client = ask()
    token = logged_in(client)
    assert "peer pacs cannot be reached" in client.post("/peers/pacs/echo", data={"token": token}).text
    assert client.post("/peers/other/echo", data={"token": token}).status_code == 404


def test_peers_tell_what_failed_how_much_came_and_when_certificates_end(ask: Ask, spool: Spool, batch: Batch) -> None:
    deliveries = Deliveries(spool.root)
    deliveries.begin(batch, ["pacs"])
    Waits(spool.root).note(batch, "pacs", Wait("peer pacs cannot be reached", time.time() + 60))
    text = ask().get("/peers").text
    for told in ("1 series</span> <small>peer pacs cannot be reached", "cannot be read", "ended</span>", "days left"):
        assert told in text
    waiting = stored(spool, SeriesInstanceUID="1.2.98")
    deliveries.begin(waiting, ["pacs"])
    Waits(spool.root).note(waiting, "pacs", Wait("its report is waited for", time.time() + 60))
    spool.mark_sent(waiting)  # to be confirmed is no failure
    assert "2 series</span>" not in ask().get("/peers").text


# What is shown


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/series/..%2f..%2fetc/passwd",
        "/series/../../etc/passwd",
        "/series/1.2.3/..%2f..%2flog.key/picture",
        "/series/1.2.3/%00/picture",
    ],
)
def test_no_path_leads_out(ask: Ask, batch: Batch, path: str) -> None:
    assert ask().get(path).status_code == 404


def test_values_of_a_header_are_text_only(ask: Ask, spool: Spool) -> None:
    stored(spool, SeriesDescription="<script>alert(1)</script>", ManufacturerModelName='{{ 7 * 7 }}" onload="x')
    text = ask().get("/").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "49" not in re.sub(r"[^>]*{{ 7", "", text).split("every scanner")[0]
    assert 'onload="x' not in text


def test_the_queue_tells_how_far_and_why(ask: Ask, spool: Spool, batch: Batch) -> None:
    names = [path.name for path in spool.instances(batch)]
    plan = {"rule": {"name": "CT", "send_to": ["pacs"]}, "series_uids": ["2.25.1"], "files": names}
    keep_plan(spool.root, batch, plan)
    spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    spool.quarantine(stored(spool, SeriesInstanceUID="1.2.99"), "a slice is missing")
    text = ask().get("/").text
    assert "denoising" in text
    assert "1 of 3" in text
    assert "a slice is missing" in text
    assert "1 series" in ask().get("/rows?step=quarantine").text
    assert "1 series" in ask().get("/rows?q=missing").text
    assert "1 series" in ask().get("/rows?rule=CT").text


def test_the_queue_is_sent_again_only_when_it_changed(ask: Ask, batch: Batch) -> None:
    client = ask()
    first = client.get("/rows")
    assert client.get("/rows", headers={"If-None-Match": first.headers["etag"]}).status_code == 304


def test_a_series_that_waits_tells_why_and_when_it_is_tried_next(ask: Ask, spool: Spool, batch: Batch) -> None:
    spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    Deliveries(spool.root).begin(batch, ["pacs"])
    Waits(spool.root).note(batch, "pacs", Wait("peer pacs cannot be reached", time.time() + 3600))
    for path in ("/rows", page_of(batch)):
        text = ask().get(path).text
        assert "pacs: peer pacs cannot be reached" in text
        (next_try,) = set(re.findall(r'[Nn]ext try <time datetime="([^"]+)"', text))
        assert datetime.fromisoformat(next_try) - datetime.now(UTC) > timedelta(minutes=30)


def test_how_long_denoising_goes_on_is_told(ask: Ask, spool: Spool, batch: Batch) -> None:
    plan = {"rule": {"name": "CT", "send_to": ["pacs"]}, "series_uids": ["2.25.1"], "files": []}
    keep_plan(spool.root, batch, plan)
    path = spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    plan_file = next(spool.instances(batch)[0].parent.glob("*.plan.json"))
    os.utime(plan_file, (1e9, 1e9))
    os.utime(path.parent, (1e9 + 30, 1e9 + 30))
    assert "about 60 s left" in ask().get("/rows").text  # 30 s for one of three
    text = ask().get(page_of(batch)).text
    assert "Denoised 1 of 3 instances" in text
    assert "took 30 s" in text


def test_what_is_shown_to_who_logged_in_is_shown_to_nobody_else(ask: Ask, batch: Batch) -> None:
    client, stranger = ask(), ask()
    logged_in(client)
    assert "Muster, Erika" in client.get("/rows").text
    assert "Muster, Erika" not in stranger.get("/rows").text
    assert "Muster, Erika" in client.get("/rows").text


def test_the_timeline_tells_what_each_destination_answered(ask: Ask, spool: Spool, batch: Batch) -> None:
    deliveries = Deliveries(spool.root)
    deliveries.begin(batch, ["pacs"])
    deliveries.note_refusal(batch, "pacs", "SOP Class not supported")
    text = ask().get(page_of(batch)).text
    assert "pacs refuses: SOP Class not supported" in text
    assert ask().get(f"/series/{batch.series_instance_uid}").headers["location"] == page_of(batch)


def test_slices_come_in_their_order_as_whole_hu(ask: Ask, spool: Spool, batch: Batch) -> None:
    client = ask()
    told = client.get(f"{page_of(batch)}/view.json").json()
    assert (told["slices"], told["derived"]) == (3, [])
    pixels = np.frombuffer(client.get(f"{page_of(batch)}/pixels/0/1").content, "<i2")
    assert pixels.size == told["rows"] * told["columns"]
    for missing in ("pixels/0/3", "pixels/1/0", "pixels/9/0", "picture"):
        assert client.get(f"{page_of(batch)}/{missing}").status_code == 404
    before, after = client.get(f"{page_of(batch)}/noise/1").json()
    assert after is None
    assert before is None or before >= 0


def test_the_slice_that_the_judge_refused_is_shown_with_boxes(ask: Ask, spool: Spool, batch: Batch) -> None:
    second = spool.instances(batch)[1].stem
    facts = {"sop_instance_uid": second, "frame": 0, "boxes": [[1, 2, 3, 4]]}
    keep_refused(spool.root, batch, facts, b"result of the slice")
    spool.quarantine(batch, "a region was shifted by 40 HU")
    client = ask()
    told = client.get(f"{page_of(batch)}/view.json").json()
    number = told["refused"]["slice"]
    assert told["refused"]["boxes"] == [[1, 2, 3, 4]]
    assert told["derived"] == [{"description": "refused by the judge", "slices": [number]}]
    assert client.get(f"{page_of(batch)}/pixels/1/{number}").content == b"result of the slice"
    assert client.get(f"{page_of(batch)}/pixels/1/{(number + 1) % 3}").status_code == 404
    (again,) = spool.requeue(batch.series_instance_uid, NOW)
    assert not list(spool.instances(again)[0].parent.glob("judge.*"))


def test_what_a_validator_says_is_a_part_of_the_page(ask: Ask, spool: Spool, batch: Batch) -> None:
    spool.write_derived(batch, "2.25.1", "2.25.2", spool.instances(batch)[0].read_bytes())
    assert f'data-load="{page_of(batch)}/validity"' in ask().get(page_of(batch)).text
    text = ask().get(f"{page_of(batch)}/validity").text
    assert "nothing that its source does not have" in text or "not installed" in text
    assert "<html" not in text


def test_what_went_meanwhile_is_not_found(ask: Ask) -> None:
    assert ask().get("/series/1.2.3/20261122T235959.123456Z").status_code == 404
    assert ask().get("/series/1.2.3").status_code == 404


def test_very_many_series_are_shown_in_parts(ask: Ask, spool: Spool, tmp_path: Path) -> None:
    for number in range(60):
        folder = spool.root / "done" / f"1.2.{number}" / (NOW + timedelta(minutes=number)).strftime("%Y%m%dT%H%M%S.%fZ")
        folder.mkdir(parents=True)
    text = ask().get("/rows?page=2").text
    assert "60 series, page 2 of 2" in text
    assert text.count("<tr>") == 1 + 10
    assert "page 2 of 2" in ask().get("/rows?page=99").text
    assert "page 1 of 2" in ask().get("/rows?page=x").text
