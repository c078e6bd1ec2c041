"""The commands: what they print, and their exit codes."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from certificates import Authority
from click.testing import Result
from factories import ct_dataset, part10
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from iscl_node import __version__
from iscl_node.cli import app
from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Batch, IncompleteSeries
from iscl_node.logs import hashed
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.store.log_key import made_log_key
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.plan import keep_plan
from iscl_node.store.records.waits import Wait, Waits
from iscl_node.store.spool import Spool

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
NEED_SETTINGS = ["serve", "status", "check"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    yield
    structlog.reset_defaults()  # every command configures the logging of its process


def run(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def config(tmp_path: Path, spool: Spool, identity_bundle: Path) -> Path:
    """Settings with a spool, a bundle and a destination that is down."""
    file = tmp_path / "iscl-node.toml"
    file.write_text(
        f"spool_dir = '{spool.root}'\n[bundle]\npath = '{identity_bundle}'\n"
        f"digest = '{bundle_digest(identity_bundle)}'\ndevice = 'cpu'\n"
        "[[peers]]\nname = 'pacs'\nae_title = 'ORTHANC'\nhost = '127.0.0.1'\nport = 1\nmay = ['receive']\n"
        "[[rules]]\nname = 'CT'\nsend_to = ['pacs']\n"
    )
    return file


@pytest.fixture
def quarantined(spool: Spool) -> Batch:
    data = part10(ct_dataset())
    header = read_header(data)
    spool.store(header, data)
    batch = spool.close(header.series_instance_uid, datetime.now(UTC))
    spool.quarantine(batch, "no rule matches; see [[rules]]")
    return batch


def test_every_command_of_the_contract_is_there() -> None:
    assert {"serve", "denoise", "simulate", "status", "close", "requeue", "release", "export", "check", "echo"} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.stdout


def test_version() -> None:
    assert run("--version").stdout.strip() == __version__


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("paint").exit_code == 2
    assert run("denoise").exit_code == 2
    assert run("echo", "127.0.0.1", "99999").exit_code == 2


@pytest.mark.parametrize("command", NEED_SETTINGS)
def test_a_missing_settings_file_is_exit_code_2(command: str, tmp_path: Path) -> None:
    result = run(command, "--config", tmp_path / "nowhere.toml")
    assert result.exit_code == 2
    assert "no such settings file" in result.stderr


@pytest.mark.parametrize("command", NEED_SETTINGS)
def test_wrong_settings_are_exit_code_2_and_every_fault_is_shown(command: str, tmp_path: Path) -> None:
    file = tmp_path / "iscl-node.toml"
    file.write_text("[scp]\nport = 0\nprot = 1")
    result = run(command, "--config", file)
    assert result.exit_code == 2
    assert "scp.port" in result.stderr
    assert "scp.prot" in result.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_settings_without_rules_do_not_serve_and_the_message_keeps_its_brackets(tmp_path: Path, command: str) -> None:
    file = tmp_path / "iscl-node.toml"
    file.write_text(f"spool_dir = '{tmp_path / 'spool'}'")
    result = run(command, "--config", file)
    assert result.exit_code == 2
    assert "the settings have no [[rules]]" in result.stderr


def test_status_of_an_empty_spool(config: Path) -> None:
    result = run("status", "--config", config)
    assert result.exit_code == 0
    assert "quarantine" in result.stdout


def test_status_for_machines(config: Path, quarantined: Batch) -> None:
    result = run("status", "--config", config, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    (each,) = report.pop("quarantine")
    batches = {"open": 0, "closed": 0, "sent": 0, "done": 0, "ignored": 0, "quarantine": 1}
    empty = {"workers": [], "incomplete": [], "waiting": [], "sent": [], "ignored": {}, "noted": []}
    assert report == {"batches": batches, **empty}
    folder = Path(each.pop("path"))
    since = datetime.fromisoformat(each.pop("since"))
    assert abs(datetime.now(UTC) - since) < timedelta(minutes=5)
    assert each == {
        "series": quarantined.series_instance_uid,
        "log": "unknown",
        "batch": quarantined.key,
        "reason": "no rule matches; see [[rules]]",
        "files": 2,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "picture": "",
    }


def test_status_tells_whose_confirmation_a_batch_waits_for(config: Path, spool: Spool) -> None:
    data = part10(ct_dataset())
    spool.store(header := read_header(data), data)
    batch = spool.close(header.series_instance_uid, datetime.now(UTC))
    deliveries = Deliveries(spool.root)
    deliveries.begin(batch, ["pacs", "vault"])
    deliveries.note_confirmed(batch, "pacs", "query")
    spool.mark_sent(batch)
    (each,) = json.loads(run("status", "--config", config, "--json").stdout)["sent"]
    assert (each["batch"], each["waits_for"]) == (batch.key, ["vault"])
    assert "vault has not confirmed yet" in run("status", "--config", config).stdout


@pytest.fixture
def closed(spool: Spool) -> Batch:
    data = part10(ct_dataset())
    spool.store(header := read_header(data), data)
    return spool.close(header.series_instance_uid, datetime.now(UTC))


def test_status_tells_what_each_series_waits_for(config: Path, spool: Spool, closed: Batch) -> None:
    keep_plan(spool.root, closed, {"series_uids": ["2.25.1"], "notes": ["1 localizer left out"]})
    Deliveries(spool.root).begin(closed, ["pacs", "vault"])
    spool.write_derived(closed, "2.25.1", "2.25.2", b"derived")
    Waits(spool.root).note(closed, "vault", Wait("no [connection]", 1_800_000_000))
    text = run("status", "--config", config).stdout
    assert f"sending {closed.series_instance_uid} {closed.key}: 1 of 1 slices denoised; pacs has 0 of 1; " in text
    assert "vault has 0 of 1, no [connection], next try 2027-01-15T08:00:00+00:00" in text
    assert f"note {closed.series_instance_uid} {closed.key}: 1 localizer left out" in text
    report = json.loads(run("status", "--config", config, "--json").stdout)
    (each,) = report["waiting"]
    assert (each["step"], each["slices"], each["denoised"]) == ("sending", 1, 1)
    assert each["destinations"][1] == {
        "name": "vault",
        "has": 0,
        "of": 1,
        "confirmed": False,
        "reason": "no [connection]",
        "next_try": "2027-01-15T08:00:00+00:00",
    }
    assert report["noted"][0]["notes"] == ["1 localizer left out"]


def test_status_tells_why_a_series_is_not_worked_on(config: Path, spool: Spool, closed: Batch) -> None:
    assert "0 of 1 slices denoised; waits for its turn; " in run("status", "--config", config).stdout
    Waits(spool.root).note(closed, "", Wait("the disk is full", 1_800_000_000))
    assert "the disk is full, next try 2027-01-15T08:00:00+00:00" in run("status", "--config", config).stdout


def test_status_watch_looks_again_until_it_is_ended(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    acts = [lambda: None, end]
    monkeypatch.setattr(time, "sleep", lambda _: acts.pop(0)())
    result = run("status", "--watch", "--config", config)
    assert result.exit_code == 0
    assert result.stdout.count("quarantine") == 2


def test_status_tells_which_batch_waits_for_the_hours_of_its_rule(config: Path, spool: Spool, closed: Batch) -> None:
    rule = {"name": "screening", "not_before": "2999-03-01T20:00:00+01:00"}
    keep_plan(spool.root, closed, {"rule": rule})
    (each,) = json.loads(run("status", "--config", config, "--json").stdout)["waiting"]
    reason = f"waits for the hours of its rule, {rule['not_before']}"
    assert (each["step"], each["reason"]) == ("waiting", reason)
    assert reason in run("status", "--config", config).stdout
    keep_plan(spool.root, closed, {"rule": rule | {"not_before": "2000-03-01T20:00:00+01:00"}})
    assert json.loads(run("status", "--config", config, "--json").stdout)["waiting"][0]["step"] == "denoising"


def test_a_hash_in_the_log_leads_to_its_series_and_back(config: Path, quarantined: Batch, spool: Spool) -> None:
    uid = quarantined.series_instance_uid
    assert run("lookup", uid, "--config", config).exit_code == 2  # no node was here yet, so there is no key
    name = hashed(made_log_key(spool.root), uid)
    assert json.loads(run("status", "--config", config, "--json").stdout)["quarantine"][0]["log"] == name
    assert f"in the log {name}" in run("status", "--config", config).stdout
    for text in (uid, name):
        assert run("lookup", text, "--config", config).stdout == f"{name} {uid} quarantine/{uid}/{quarantined.key}\n"
    assert run("lookup", "1.2.3", "--config", config).stdout.endswith(" 1.2.3 not in the spool\n")
    assert run("lookup", "0123456789ab", "--config", config).exit_code == 2


def test_status_tells_why_a_series_is_in_quarantine(config: Path, quarantined: Batch) -> None:
    result = run("status", "--config", config)
    assert f"{quarantined.series_instance_uid} {quarantined.key}: no rule matches; see [[rules]]" in result.stdout


def test_status_tells_why_batches_were_ignored(config: Path, quarantined: Batch, spool: Spool) -> None:
    (batch,) = spool.requeue(quarantined.series_instance_uid, datetime.now(UTC))
    spool.ignore(batch, "rule 'small': [too few]")
    assert "ignored 1 batch(es): rule 'small': [too few]" in run("status", "--config", config).stdout
    report = json.loads(run("status", "--config", config, "--json").stdout)
    assert report["ignored"] == {"rule 'small': [too few]": 1}
    assert run("requeue", batch.series_instance_uid, "--config", config).exit_code == 0


def test_status_tells_what_is_missing_and_close_ends_the_wait(config: Path, spool: Spool) -> None:
    data = part10(ct_dataset())
    spool.store(read_header(data), data)
    (uid,) = spool.quiet_series(time.time(), 0)
    assert run("status", "--config", config).exit_code == 0  # no node was here yet
    OpenSeries(spool.root).note_incomplete([IncompleteSeries(uid, "1 slice missing [somewhere]", 0.0, is_held=True)])
    assert f"held {uid}: 1 slice missing [somewhere]" in run("status", "--config", config).stdout
    (told,) = json.loads(run("status", "--config", config, "--json").stdout)["incomplete"]
    assert told == {
        "series": uid,
        "log": "unknown",
        "state": "held",
        "missing": "1 slice missing [somewhere]",
        "last_arrival": "1970-01-01T00:00:00+00:00",
    }
    assert "closed with 1 instances" in run("close", uid, "--config", config).stdout
    assert len(spool.closed_batches()) == 1
    assert json.loads(run("status", "--config", config, "--json").stdout)["incomplete"] == []


@pytest.mark.parametrize("series", ["1.2.3", "../closed", "../../etc"])
def test_close_of_a_series_that_is_not_open_is_exit_code_2(config: Path, quarantined: Batch, series: str) -> None:
    result = run("close", series, "--config", config)
    assert result.exit_code == 2
    assert "is not open" in result.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_every_fault_of_a_rule_is_told_at_start(config: Path, command: str) -> None:
    when = "when = { KVP = { min = 140, max = 80 }, Modalty = 'CT', StudyID = { matches = '(' } }\n"
    config.write_text(config.read_text() + when)
    result = run(command, "--config", config)
    assert result.exit_code == 2
    for fault in (
        "when.KVP has min 140 above max 80",
        "when.Modalty is an unknown",
        "when.StudyID.matches is no regular",
    ):
        assert f"rule 'CT': {fault}" in result.stderr


@pytest.mark.parametrize("made", [False, True], ids=["no-folder", "another-folder"])
def test_status_without_a_spool_is_exit_code_2(config: Path, tmp_path: Path, made: bool) -> None:
    other = tmp_path / "other"
    if made:
        other.mkdir()
    config.write_text(f"spool_dir = '{other}'")
    result = run("status", "--config", config)
    assert result.exit_code == 2
    assert "there is no spool" in result.stderr


def test_requeue_gives_a_series_another_try(config: Path, quarantined: Batch, spool: Spool) -> None:
    result = run("requeue", quarantined.series_instance_uid, "--config", config)
    assert result.exit_code == 0
    assert "1 batch(es) requeued" in result.stdout
    assert len(spool.closed_batches()) == 1


@pytest.fixture
def delivered(spool: Spool) -> Batch:
    data = part10(ct_dataset())
    header = read_header(data)
    spool.store(header, data)
    batch = spool.close(header.series_instance_uid, datetime.now(UTC))
    Deliveries(spool.root).begin(batch, ["pacs", "gone"])
    spool.write_derived(batch, "2.25.1", "2.25.2", b"derived")
    spool.release(batch)
    return batch


@pytest.mark.parametrize(("command", "decision"), [("redo", "redone"), ("resend", "resent")])
def test_the_audit_trail_has_who_redoes_or_resends(
    config: Path, delivered: Batch, tmp_path: Path, command: str, decision: str
) -> None:
    config.write_text(f'{config.read_text()}\n[audit]\nfile = "{tmp_path / "audit.log"}"\n')
    assert run(command, delivered.series_instance_uid, "--config", config).exit_code == 0
    (message,) = (tmp_path / "audit.log").read_text().splitlines()
    for part in (f'csd-code="{decision}"', 'csd-code="110103"', 'EventActionCode="R"', 'NumberOfInstances="1"'):
        assert part in message
    assert 'ParticipantObjectID="T1"' in message


def test_redo_has_a_delivered_series_made_anew(config: Path, delivered: Batch, spool: Spool) -> None:
    result = run("redo", delivered.series_instance_uid, "--config", config)
    assert result.exit_code == 0
    (batch,) = spool.closed_batches()
    assert f"1 instances are processed anew as batch {batch.key}" in result.stdout
    assert '"event": "redone"' in (spool.root / "actions.jsonl").read_text()
    again = run("redo", delivered.series_instance_uid, "--config", config)
    assert again.exit_code != 0
    assert "still on its way" in again.stderr


@pytest.mark.parametrize("to", [[], ["--to", "pacs"]])
def test_resend_has_a_delivered_series_sent_once_more(
    config: Path, delivered: Batch, spool: Spool, to: list[str]
) -> None:
    result = run("resend", delivered.series_instance_uid, *to, "--config", config)
    assert result.exit_code == 0
    assert result.stdout == "1 objects are sent to pacs once more\n"  # 'gone' is not in the settings any more
    assert spool.closed_batches() == [delivered]
    assert '"event": "resent"' in (spool.root / "actions.jsonl").read_text()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["redo", "1.2.3"], "not among the delivered"),
        (["redo", "../../etc"], "not among the delivered"),
        (["resend", "1.2.3"], "nothing is kept"),
        (["resend", "1.2.3", "--to", "gone"], "no peer 'gone'"),
    ],
)
def test_what_is_not_delivered_cannot_be_redone_or_resent(
    config: Path, delivered: Batch, spool: Spool, command: list[str], told: str
) -> None:
    result = run(*command, "--config", config)
    assert result.exit_code == 2
    assert told in result.stderr
    assert spool.closed_batches() == []
    assert not (spool.root / "actions.jsonl").exists()


@pytest.mark.parametrize("series", ["1.2.3", "../../etc"])
def test_requeue_of_a_series_that_is_not_in_quarantine_is_exit_code_2(config: Path, series: str) -> None:
    result = run("requeue", series, "--config", config)
    assert result.exit_code == 2
    assert "in quarantine" in result.stderr


def test_release_asks_before_it_deletes(config: Path, quarantined: Batch, spool: Spool) -> None:
    series = quarantined.series_instance_uid
    result = run("release", series, "--config", config)
    assert result.exit_code == 1
    assert f"{quarantined.key}: 2 files" in result.stdout
    assert "nothing was deleted" in result.stderr
    assert len(spool.quarantined()) == 1

    result = run("release", series, "--yes", "--config", config)
    assert result.exit_code == 0, result.output
    assert "1 batch(es) deleted" in result.stdout
    assert spool.quarantined() == []
    (line,) = (spool.root / "releases.jsonl").read_text().splitlines()
    assert json.loads(line)["batch"] == quarantined.key
    assert f"({os.getuid()})" in json.loads(line)["user"]
    assert series not in line


def test_release_of_one_batch_leaves_the_others(config: Path, quarantined: Batch, spool: Spool) -> None:
    series = quarantined.series_instance_uid
    conflict = spool.root / "quarantine" / series / "conflict-0123456789abcdef"
    shutil.copytree(spool.root / "quarantine" / series / quarantined.key, conflict)
    result = run("release", series, "--batch", conflict.name, "--yes", "--config", config)
    assert result.exit_code == 0, result.output
    assert [each.batch for each in spool.quarantined()] == [quarantined]


def test_release_by_a_user_without_a_name(
    config: Path, quarantined: Batch, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", nameless)
    assert run("release", quarantined.series_instance_uid, "--yes", "--config", config).exit_code == 0
    assert json.loads((spool.root / "releases.jsonl").read_text())["user"] == str(os.getuid())


def test_export_copies_a_series(config: Path, quarantined: Batch, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    result = run("export", quarantined.series_instance_uid, target, "--config", config)
    assert result.exit_code == 0, result.output
    folder = target / f"quarantine-{quarantined.key}"
    assert f"{folder}: 2 files" in result.stdout
    assert (folder / "reason.txt").read_text() == "no rule matches; see [[rules]]\n"
    again = run("export", quarantined.series_instance_uid, target, "--config", config)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize("arguments", [("release", "1.2.3", "--yes"), ("export", "1.2.3", "copy")])
def test_what_is_not_in_the_spool_is_exit_code_2(config: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--config", config)
    assert result.exit_code == 2
    assert "1.2.3" in result.stderr


def test_a_disk_that_refuses_is_told(config: Path, quarantined: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iscl_node.store.leaving.retention.append_synced", full)
    result = run("release", quarantined.series_instance_uid, "--yes", "--config", config)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr


@pytest.mark.parametrize(
    ("zone", "machine", "told"),
    [
        ("Pacific/Auckland", "UTC", "Pacific/Auckland, where it is "),
        ("", "Asia/Kolkata", "that of the machine, where it is "),
        ("", "UTC", "WARNING: that of the machine, where it is "),
    ],
)
def test_check_tells_the_time_zone(
    config: Path, monkeypatch: pytest.MonkeyPatch, zone: str, machine: str, told: str
) -> None:
    monkeypatch.setenv("TZ", machine)
    time.tzset()
    monkeypatch.setenv("ISCL_NODE__DERIVED__TIME_ZONE", zone)
    try:
        assert json.loads(run("check", "--config", config, "--json").stdout)["time zone"].startswith(told)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_check_reports_settings_bundle_and_peers(config: Path, identity_bundle: Path) -> None:
    result = run("check", "--config", config, "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert report["settings"].startswith("good, digest ")
    assert bundle_digest(identity_bundle) in report["bundle, profile full"]
    assert report["peer pacs"].startswith("FAILED: peer pacs (ORTHANC at 127.0.0.1:1)")


@pytest.mark.fault(
    "machine", "another bundle than the installed one, and no digest", "an error with the digest; none of its code runs"
)
def test_a_bundle_from_elsewhere_needs_its_digest(config: Path, identity_bundle: Path) -> None:
    digest = bundle_digest(identity_bundle)
    config.write_text(config.read_text().replace(digest, ""))
    result = run("check", "--config", config)
    assert result.exit_code == 2
    assert f'set digest = "{digest}" under [bundle]' in result.stderr


@pytest.mark.parametrize(
    ("confirm", "told"),
    [("auto", "FAILED: confirm is 'auto' and it offers no service"), ("query", "FAILED"), ("none", None)],
)
def test_check_tells_how_a_destination_will_confirm(
    config: Path, tmp_path: Path, confirm: str, told: str | None
) -> None:
    archive = StorageScp(
        ae_title="ORTHANC",
        host="127.0.0.1",
        port=0,
        peers=[],
        accept_unknown_peers=True,
        receive=lambda _: None,
        metrics=Metrics(CollectorRegistry()),
    )
    archive.start()
    try:
        text = config.read_text().replace("port = 1\n", f"port = {archive.port}\nconfirm = '{confirm}'\n")
        config.write_text(text)
        report = json.loads(run("check", "--config", config, "--json").stdout)
    finally:
        archive.stop()
    assert "answers in" in report["peer pacs"]
    assert str(report.get("peer pacs confirms by")).startswith(str(told))


def test_check_explains_what_would_be_done(config: Path, write_series: Callable[..., Path]) -> None:
    folder = write_series(2)
    (folder / "notes.txt").write_text("no DICOM")
    result = run("check", "--config", config, "--explain", folder)
    assert result.exit_code == 0, result.output
    for line in ("  derived: rule 'CT' holds", "    yes every series", "notes.txt: refused: not a DICOM file"):
        assert line in result.stdout
    report = json.loads(run("check", "--config", config, "--explain", folder, "--json").stdout)
    (series,) = report["series"]
    assert series["outcome"] == "derived"
    assert series["made"][0]["series"]["description"] == "THORAX AI denoised"
    assert series["rules"][0]["finding"]["holds"] is True
    assert [Path(each["path"]).name for each in report["refused_files"]] == ["notes.txt"]


def test_nothing_to_explain_is_exit_code_2(config: Path, tmp_path: Path) -> None:
    assert run("check", "--config", config, "--explain", tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize(("days", "level"), [(40.5, ""), (20.5, "WARNING: "), (-1.5, "FAILED: ")])
def test_check_tells_when_a_certificate_ends(config: Path, tmp_path: Path, days: float, level: str) -> None:
    tls = Authority(tmp_path).issue("node", days)
    files = f"certificate = '{tls.certificate}'\nkey = '{tls.key}'\nca = '{tls.ca}'\n"
    config.write_text(config.read_text() + f"[scp.tls]\n{files}")
    report = json.loads(run("check", "--config", config, "--json").stdout)
    assert report["TLS, scp"].startswith(f"{level}{tls.certificate}")
    assert report["TLS, scp"].endswith(f" {math.floor(days)} days left")


def test_check_names_a_key_of_another_certificate(config: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls, other = authority.issue("node"), authority.issue("other")
    files = f"certificate = '{tls.certificate}'\nkey = '{other.key}'\nca = '{tls.ca}'\n"
    config.write_text(config.read_text() + f"[scp.tls]\n{files}")
    result = run("check", "--config", config, "--json")
    assert result.exit_code == 1
    assert "key values mismatch" in json.loads(result.stdout)["TLS, scp"]


def test_check_warns_of_a_password_without_tls(config: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    user = f"host = '127.0.0.1'\nuser = {{ name = 'iscl', password_file = '{tmp_path / 'password'}' }}"
    config.write_text(config.read_text().replace("host = '127.0.0.1'", user))
    report = json.loads(run("check", "--config", config, "--json").stdout)
    assert report["user of peer pacs"].startswith("WARNING")


def test_echo_of_a_peer_that_is_down_is_exit_code_1() -> None:
    result = run("echo", "127.0.0.1", "1")
    assert result.exit_code == 1
    assert "failed" in result.stderr


@pytest.mark.parametrize("own", [True, False], ids=["our authority", "another authority"])
def test_echo_speaks_tls(tmp_path: Path, own: bool) -> None:
    authority = Authority(tmp_path)
    node = authority.issue("node")
    ours = (authority if own else Authority(tmp_path, "elsewhere")).issue("workplace")
    scp = StorageScp(
        ae_title="ISCL_NODE",
        host="127.0.0.1",
        port=0,
        peers=[],
        accept_unknown_peers=True,
        receive=pytest.fail,
        metrics=Metrics(CollectorRegistry()),
        tls=node,
    )
    scp.start()
    try:
        result = run(
            "echo", "127.0.0.1", scp.port, "--called", "ISCL_NODE", "--tls", ours.certificate, ours.key, node.ca
        )
    finally:
        scp.stop()
    assert result.exit_code == (0 if own else 1), result.output


def test_denoise_writes_a_derived_series(
    write_series: Callable[..., Path], tmp_path: Path, identity_bundle: Path
) -> None:
    result = run("denoise", write_series(2), tmp_path / "out", "--bundle", identity_bundle, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "2 instances written, 0 series refused" in result.stdout
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2


def test_denoise_writes_evidence(write_series: Callable[..., Path], tmp_path: Path, identity_bundle: Path) -> None:
    options = ("--bundle", identity_bundle, "--device", "cpu", "--noise-map", "--report")
    result = run("denoise", write_series(2), tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "4 instances written, 0 series refused" in result.stdout


def test_denoise_of_a_missing_folder_is_exit_code_2(tmp_path: Path) -> None:
    result = run("denoise", tmp_path / "nowhere", tmp_path / "out")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr


def test_denoise_makes_a_series_for_each_strength(
    write_series: Callable[..., Path], tmp_path: Path, identity_bundle: Path
) -> None:
    options = ("--bundle", identity_bundle, "--device", "cpu", "--strength", "auto", "--strength", "1")
    result = run("denoise", write_series(2), tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "4 instances written, 0 series refused" in result.stdout
    assert [len(list(folder.iterdir())) for folder in (tmp_path / "out").iterdir()] == [2, 2]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--strength", "2"), ("--strength", "much"), ("--target-noise-hu", "0"), ("--device", "tpu"), ("--profile", "x")]
    + [("--suffix", suffix) for suffix in ("s" * 33, " ", "ä", "a\\b")],
)
def test_denoise_with_a_wrong_option_is_exit_code_2(
    write_series: Callable[..., Path], tmp_path: Path, option: str, value: str, identity_bundle: Path
) -> None:
    result = run("denoise", write_series(1), tmp_path / "out", "--bundle", identity_bundle, option, value)
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "out").exists()


def test_a_refused_series_is_exit_code_1(write_series: Callable[..., Path], tmp_path: Path) -> None:
    result = run("simulate", write_series(1, RescaleSlope=0), tmp_path / "out", "--dose", "0.5", "--workers", "1")
    assert result.exit_code == 1
    assert "refused" in result.stderr


def test_an_ignored_series_is_exit_code_0(write_series: Callable[..., Path], tmp_path: Path) -> None:
    source = write_series(1, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    write_series(1, folder="series/mixed", SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.1")
    write_series(1, folder="series/scout", SeriesInstanceUID="1.2.3", ImageType="ORIGINAL\\PRIMARY\\LOCALIZER")
    result = run("simulate", source, tmp_path / "out", "--dose", "0.5", "--workers", "1")
    assert result.exit_code == 0
    assert "it is MR Image Storage, no CT Image" in result.stderr
    assert "left out 1 of 2 instances: it is a localizer" in result.stderr
    assert result.stdout.endswith("1 instances written, 0 series refused, 1 ignored\n")


def test_where_every_file_is_skipped_each_has_its_reason_and_it_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    result = run("simulate", tmp_path / "in", tmp_path / "out", "--dose", "0.5", "--workers", "1")
    assert result.exit_code == 1
    assert "notes.txt: not a DICOM file" in result.stderr


@pytest.mark.parametrize("dose", ["2", "0", "-1", "nan"])
def test_simulate_with_an_impossible_dose_is_exit_code_2(
    write_series: Callable[..., Path], tmp_path: Path, dose: str
) -> None:
    result = run("simulate", write_series(1), tmp_path / "out", "--dose", dose)
    assert result.exit_code == 2
    assert "above 0 and at most 1" in result.stderr


def test_the_conformance_statement_is_printed_or_written(tmp_path: Path) -> None:
    assert run("conformance").stdout.startswith("# DICOM Conformance Statement of ISCL Node")
    assert run("conformance", "--output", tmp_path / "c.md").exit_code == 0
    assert (tmp_path / "c.md").read_text().startswith("# DICOM Conformance Statement")
    failed = run("conformance", "--output", tmp_path / "nowhere" / "c.md")
    assert failed.exit_code == 2
    assert "cannot be written" in failed.stderr
