"""The settings: one file and the environment, all faults at once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from iscl_node.cli.devices import of_device
from iscl_node.domain import (
    SCAN_FACTS,
    AuditPlan,
    CompletenessPolicy,
    EvidenceChoice,
    PrivateElement,
    ReceptionLimits,
    Site,
    SyslogServer,
    Tls,
    UserIdentity,
    WebService,
)
from iscl_node.domain.hours import Hours
from iscl_node.domain.strength import AutoStrength, StrengthChoice
from iscl_node.errors import ConfigurationError
from iscl_node.settings import INSTALLED_BUNDLE, Settings, load_settings

PEER = '[[peers]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = 4242\nmay = ["receive"]\n'
WEB = '[[dicomweb]]\nname = "web"\nurl = "https://pacs.hospital/dicom-web/"\n'
RULE = '[[rules]]\nname = "CT"\nsend_to = ["pacs"]\n'

Load = Callable[[str], Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> Settings:
        file = tmp_path / "iscl-node.toml"
        file.write_text(text)
        return load_settings(file)

    return load


def test_an_empty_file_gives_the_documented_defaults(load: Load) -> None:
    settings = load("")
    here = Path(settings.spool_dir).parent
    assert (settings.scp.ae_title, settings.scp.port) == ("ISCL_NODE", 11112)
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 9464)
    assert settings.spool_dir == here / "spool"
    assert settings.database_url == f"sqlite:///{here}/spool/workflows.sqlite"
    assert settings.bundle.path == INSTALLED_BUNDLE
    assert not settings.scp.accept_unknown_peers
    assert settings.peers == settings.rules == ()


def test_relative_paths_count_from_the_settings_file(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tls = "[scp.tls]\ncertificate = 'tls/node.pem'\nkey = '/etc/node.key'\nca = 'tls/ca.pem'\n"
    user = "user = { name = 'iscl', password_file = 'pacs.password' }\n"
    settings = load("spool_dir = 'data/spool'\n[audit]\nfile = 'audit.log'\n" + tls + PEER + user)
    assert settings.spool_dir == tmp_path / "data" / "spool"
    assert settings.database_url == f"sqlite:///{tmp_path}/data/spool/workflows.sqlite"
    assert settings.audit.file == tmp_path / "audit.log"
    assert settings.scp.known_tls() == Tls(tmp_path / "tls/node.pem", Path("/etc/node.key"), tmp_path / "tls/ca.pem")
    assert settings.peers[0].user is not None
    assert settings.peers[0].user.password_file == tmp_path / "pacs.password"
    assert load("database_url = 'sqlite:///node.sqlite'").database_url == f"sqlite:///{tmp_path}/node.sqlite"


def test_a_spool_where_the_path_led_before_is_not_left_behind(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "spool" / "closed").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"there is a spool in .*elsewhere/spool: move it"):
        load("")
    (tmp_path / "spool").mkdir()
    assert load("").spool_dir == tmp_path / "spool"


def test_the_database_follows_the_spool(load: Load) -> None:
    assert load('spool_dir = "/data/spool"').database_url == "sqlite:////data/spool/workflows.sqlite"
    assert load('database_url = "postgresql://user@host/node"').database_url == "postgresql://user@host/node"


def test_a_peers_tls_is_that_of_the_node_where_it_is_not_set(load: Load, tmp_path: Path) -> None:
    node = "[scp.tls]\ncertificate = 'node.pem'\nkey = 'node.key'\nca = 'ca.pem'\n"
    settings = load(node + PEER + "tls = { ca = 'other.pem', server_name = 'pacs.example' }")
    ours = Tls(tmp_path / "node.pem", tmp_path / "node.key", tmp_path / "ca.pem")
    theirs = replace(ours, ca=tmp_path / "other.pem", server_name="pacs.example")
    assert settings.known_peers()[0].tls == theirs
    assert settings.tls_uses() == {"scp": ours, "peer pacs": theirs}
    assert load(PEER).tls_uses() == {}


def test_there_is_no_audit_trail_unless_it_has_a_file_or_a_server(load: Load, tmp_path: Path) -> None:
    assert load("").audit_plan() is None
    assert load("[audit]\nsite = 'Hospital'").audit_plan() is None
    assert load("[audit]\nfile = 'audit.log'").audit_plan() == AuditPlan(
        "node-1", "", tmp_path / "audit.log", 1 << 30, None
    )


def test_the_syslog_server_is_called_with_the_tls_of_the_node_where_it_is_not_set(load: Load, tmp_path: Path) -> None:
    node = "worker_name = 'w'\n[scp.tls]\ncertificate = 'node.pem'\nkey = 'node.key'\nca = 'ca.pem'\n"
    server = "[audit.syslog]\nhost = 'arr'\n"
    settings = load(node + server + "ca = 'other.pem'\n[audit]\nsource_id = 'ct-node'\nsite = 'Hospital'")
    theirs = Tls(tmp_path / "node.pem", tmp_path / "node.key", tmp_path / "other.pem")
    assert settings.audit_plan() == AuditPlan("ct-node", "Hospital", None, 1 << 30, SyslogServer("arr", 6514, theirs))
    assert settings.tls_uses()["audit.syslog"] == theirs
    plain = load(server + "port = 601\ntls = false").audit_plan()
    assert plain is not None
    assert plain.syslog == SyslogServer("arr", 601, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[audit.syslog]\nhost = 'arr'", r"\[audit.syslog\]: tls needs certificate, key and ca"),
        ("[audit.syslog]\ntls = false", r"audit.syslog.host: is missing"),
        ("[audit]\nmax_bytes = 1000", r"line 2, audit.max_bytes: must be at least 4194304, not 1000"),
    ],
)
def test_faults_of_the_audit_trail_are_named(load: Load, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(text)


def test_a_peers_networks_and_services(load: Load) -> None:
    peer = PEER.replace('"receive"', '"echo"')
    (known,) = load(peer + 'networks = ["10.1.0.0/16", "2001:db8::/32"]').known_peers()
    assert known.networks == (ip_network("10.1.0.0/16"), ip_network("2001:db8::/32"))
    assert (known.may_store, known.may_receive, known.may_echo) == (False, False, True)


def test_a_rule_tells_when_a_series_is_complete(load: Load) -> None:
    assert load(PEER + RULE).known_rules()[0].completeness == CompletenessPolicy("", False, 300, "process")
    peer = PEER.replace('"receive"', '"receive", "query", "store"')
    settings = load(
        peer + RULE + "completeness = { ask = 'pacs', fetch = true, timeout_seconds = 60, at_timeout = 'wait' }"
    )
    assert settings.known_rules()[0].completeness == CompletenessPolicy("pacs", True, 60, "wait")
    assert settings.known_peers()[0].may_query


def test_a_peers_password_is_the_first_line_of_its_file(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = load(PEER + f"user = {{ name = 'iscl', password_file = '{file}' }}")
    with pytest.raises(ConfigurationError, match=r"password_file .* cannot be read"):
        settings.known_peers()
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="has no password"):
        settings.known_peers()
    file.write_text("secret word\n")
    assert settings.known_peers()[0].user == UserIdentity("iscl", "secret word")


def test_the_limits_of_reception_are_those_of_the_settings(load: Load) -> None:
    assert load("").scp.limits() == ReceptionLimits()
    limits = load("[scp]\nmax_associations = 8\nmax_associations_per_host = 2\nidle_seconds = 30").scp.limits()
    assert limits == ReceptionLimits(associations=8, associations_per_host=2, idle_seconds=30)


def test_the_environment_wins_and_leaves_its_neighbours(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISCL_NODE__SCP__PORT", "11113")
    monkeypatch.setenv("ISCL_NODE__SPOOL_DIR", "/elsewhere")

    settings = load('spool_dir = "here"\n[scp]\nae_title = "CT_NODE"\nport = 104')

    assert settings.scp.port == 11113
    assert settings.scp.ae_title == "CT_NODE"
    assert settings.spool_dir == Path("/elsewhere")
    assert settings.database_url == "sqlite:////elsewhere/workflows.sqlite"


def test_what_the_command_line_gives_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text('role = "all"\ndatabase_url = "postgresql://user@host/node"')
    monkeypatch.setenv("ISCL_NODE__ROLE", "receive")
    assert load_settings(file).role == "receive"
    assert load_settings(file, {"role": "work"}).role == "work"


@pytest.mark.parametrize("role", ["receive", "work"])
def test_a_role_is_one_of_several_nodes(load: Load, role: str) -> None:
    with pytest.raises(ConfigurationError, match=f"role '{role}' needs PostgreSQL, .* see database_url"):
        load(f'role = "{role}"')
    assert load("").role == "all"


def test_each_device_has_a_process_with_settings_of_its_own(load: Load) -> None:
    settings = load(
        'database_url = "postgresql://user@host/node"\n[http]\nport = 9000\n'
        '[bundle]\ndevices = ["cpu", "cuda:1", "cpu"]'
    )
    made = [of_device(settings, number) for number in range(3)]
    assert [each.worker_name for each in made] == ["node-1/cpu", "node-1/cuda:1", "node-1/cpu-2"]
    assert [each.bundle.device for each in made] == ["cpu", "cuda:1", "cpu"]
    assert [each.http.port for each in made] == [9001, 9002, 9003]
    assert {each.role for each in made} == {"work"}
    with pytest.raises(ConfigurationError, match="devices need PostgreSQL"):
        load('[bundle]\ndevices = ["cuda:0"]')
    with pytest.raises(ConfigurationError, match=r"bundle\.devices"):
        load('[bundle]\ndevices = ["gpu"]')


def test_a_rule_has_a_priority_and_hours(load: Load) -> None:
    (rule,) = load(PEER + RULE).known_rules()
    assert (rule.priority, rule.hours) == ("normal", None)
    (rule,) = load(PEER + RULE + "priority = 'off-peak'\nhours = '20:00-06:00'").known_rules()
    assert (rule.priority, rule.hours) == ("off-peak", Hours(time(20), time(6)))
    with pytest.raises(ConfigurationError, match="hours are written as 20:00-06:00"):
        load(PEER + RULE + "hours = 'at night'")


def test_peers_and_rules_become_the_nodes_nouns(load: Load) -> None:
    settings = load(PEER + RULE + 'when = { Modality = "CT" }\nstrength = 0.5')
    (peer,), (rule,) = settings.known_peers(), settings.known_rules()
    assert (peer.name, peer.may_store, peer.may_receive) == ("pacs", False, True)
    assert (rule.when, rule.strengths, rule.profile, rule.suffix) == (
        {"Modality": "CT"},
        (0.5,),
        "full",
        " AI denoised",
    )
    assert rule.send_to == ("pacs",)
    assert rule.transfer_syntax == "explicit"


def test_derived_instances_may_be_compressed_as_their_source(load: Load) -> None:
    (rule,) = load(PEER + RULE + 'transfer_syntax = "source"').known_rules()
    assert rule.transfer_syntax == "source"
    with pytest.raises(ConfigurationError, match="'explicit' or 'source'"):
        load(PEER + RULE + 'transfer_syntax = "jpeg"')


def test_a_rule_may_have_several_strengths_or_ignore(load: Load) -> None:
    text = '[[rules]]\nname = "small"\nwhen = { Rows = { max = 64 } }\nignore = "too small"\n'
    small, ct = load(PEER + text + RULE + "strength = [0.5, 1]").known_rules()
    assert (small.ignore, small.when, small.send_to) == ("too small", {"Rows": {"max": 64}}, ())
    assert (ct.ignore, ct.strengths) == ("", (0.5, 1.0))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", (AutoStrength(10),)),
        ("target_noise_hu = 12", (AutoStrength(12),)),
        ('strength = "strong"\ntarget_noise_hu = 12', (AutoStrength(7),)),
        ('strength = ["auto", "mild", 1]', (AutoStrength(10), AutoStrength(14), 1.0)),
    ],
)
def test_the_noise_decides_unless_a_rule_names_a_share(
    load: Load, lines: str, expected: tuple[StrengthChoice, ...]
) -> None:
    (rule,) = load(PEER + RULE + lines).known_rules()
    assert rule.strengths == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", EvidenceChoice(noise_map=False, report=False)),
        ("noise_map = true", EvidenceChoice(noise_map=True, report=False)),
        ("report = true", EvidenceChoice(noise_map=False, report=True)),
        ('noise_map = "ct"', EvidenceChoice(noise_map="ct", report=False)),
    ],
)
def test_evidence_is_made_when_a_rule_asks_for_it(load: Load, lines: str, expected: EvidenceChoice) -> None:
    (rule,) = load(PEER + RULE + lines).known_rules()
    assert rule.evidence == expected


def test_all_faults_are_told_at_once(load: Load) -> None:
    text = '[scp]\nport = 0\nae_title = "much too long an AE title"\n[bundle]\ndevice = "tpu"\n[delivery]\nretries = 3'
    with pytest.raises(ConfigurationError, match=r"4 fault\(s\)") as caught:
        load(text)
    for key in ("scp.port", "scp.ae_title", "bundle.device", "delivery.retries"):
        assert key in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 'blue'", "colour"),
        ("[scp]\nprot = 104", r"scp\.prot"),
        (PEER + RULE.replace("pacs", "vault"), "sends to 'vault'"),
        (PEER.replace("receive", "store") + RULE, "may 'receive'"),
        (PEER + PEER, "same name"),
        (PEER + RULE + "strength = 1.5", r"rules\.0\.strength"),
        (PEER + RULE + "strength = [0.5, -1]", r"rules\.0\.strength"),
        (PEER + RULE + "strength = []", r"rules\.0\.strength"),
        (PEER + RULE + 'strength = "much"', r"rules\.0\.strength"),
        (PEER + RULE + "target_noise_hu = 0", r"rules\.0\.target_noise_hu"),
        (PEER + RULE + 'suffix = " "', "not only spaces"),
        (PEER + RULE + r"suffix = ' a\b'", "without backslash"),
        (PEER + RULE.replace('"pacs"', '"pacs", "pacs"'), "names a peer twice"),
        (PEER + RULE + 'ignore = "a localizer"', "rule 'CT' ignores, so it may only have"),
        (PEER + '[[rules]]\nname = "CT"', "rule 'CT' needs send_to .* or ignore with a reason"),
        (PEER + RULE + "completeness = { ask = 'pacs' }", "asks 'pacs', which is no peer that may 'query'"),
        (
            PEER.replace('"receive"', '"receive", "query"') + RULE + "completeness = { ask = 'pacs', fetch = true }",
            "fetches from 'pacs', which is no peer that may 'store'",
        ),
        (PEER + RULE + "completeness = { fetch = true }", "fetch needs ask"),
        (PEER + RULE + "completeness = { at_timeout = 'forget' }", r"rules\.0\.completeness\.at_timeout"),
        (PEER + RULE + "completeness = { timeout_seconds = -1 }", r"rules\.0\.completeness\.timeout_seconds"),
        (PEER + RULE + RULE, "two rules have the same name"),
        (PEER.replace("ORTHANC", "A\\\\B"), r"peers\.0\.ae_title"),
        ("database_url = 'mysql://host/node'", "database_url"),
        (PEER.replace("127.0.0.1", "pacs..example"), r"peers\.0\.host: .*neither a host name nor an address"),
        ("[audit.syslog]\nhost = '.example'\ntls = false", r"audit\.syslog\.host: .*neither"),
        ("[bundle]\ndigest = 'abc'", r"bundle\.digest"),
        ("[scp]\nmax_associations_per_host = 100", "more than max_associations"),
        ("[scp]\nmax_instance_bytes = 4_000_000_000", "more than max_receiving_bytes"),
        ("[scp]\nmax_half_open = 1", r"scp\.max_half_open"),
        ("[scp]\nquiet_seconds = inf", r"scp\.quiet_seconds"),
        ("scp = 3", "scp"),
        (PEER.replace('"127.0.0.1"', '""'), "may 'receive' and has no host"),
        (PEER.replace('"127.0.0.1"', '""').replace("receive", "query"), "may 'query' and has no host"),
        (PEER.replace('"127.0.0.1"', '""').replace("receive", "store"), "neither host nor networks"),
        (PEER + 'networks = ["10.1.0.0/33"]', r"peers\.0\.networks\.0"),
        (PEER + "tls = {}", "needs certificate, key and ca"),
        ("[scp.tls]\ncertificate = 'node.pem'", r"scp\.tls\.key"),
        ("[scp\nport = 1", "iscl-node.toml"),
    ],
)
def test_a_fault_is_named(load: Load, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: no such settings file"):
        load_settings(tmp_path / "nowhere.toml")


def test_settings_do_not_change(load: Load) -> None:
    settings = load("")
    with pytest.raises(ValueError, match="frozen"):
        settings.scp.port = 1  # type: ignore[misc]  # what the test is about


def test_derived_objects_are_research_and_keep_scan_facts_unless_told_otherwise(load: Load) -> None:
    site = load("").derived.site("ISCL_NODE")
    assert (site.ae_title, site.content_qualification, site.institution_name) == ("ISCL_NODE", "RESEARCH", "")
    assert PrivateElement(0x0043, 0x27, "GEMS_PARM_01") in site.keep_private


def test_a_site_names_its_private_elements(load: Load) -> None:
    text = '[derived]\nkeep_private = ["(0043,xx27,GEMS_PARM_01)", "(7005,xx1B,TOSHIBA_MEC_CT3)"]\nstation_name = "N1"'
    site = load(text).derived.site("N")
    assert site.keep_private == (
        PrivateElement(0x0043, 0x27, "GEMS_PARM_01"),
        PrivateElement(0x7005, 0x1B, "TOSHIBA_MEC_CT3"),
    )
    assert site.station_name == "N1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('keep_private = ["(0042,xx27,GEMS_PARM_01)"]', "is no private element"),
        ('keep_private = ["0043,1027"]', "write it like"),
        ("keep_private = [3]", r"derived\.keep_private\.0"),
        ('station_name = "12345678901234567"', r"derived\.station_name"),
        ('institution_name = "Charité"', r"derived\.institution_name"),
        ('content_qualification = "CLEARED"', r"derived\.content_qualification"),
    ],
)
def test_a_fault_in_what_the_site_says_is_named(load: Load, line: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(f"[derived]\n{line}")


def test_a_time_zone_is_one_that_there_is(load: Load) -> None:
    assert load("[derived]\ntime_zone = 'Pacific/Auckland'").derived.site("").time_zone == "Pacific/Auckland"
    with pytest.raises(ConfigurationError, match="no time zone 'Europe/Zürich'; did you mean 'Europe/Zurich'"):
        load("[derived]\ntime_zone = 'Europe/Zürich'")


def test_one_key_of_a_section_leaves_its_others_at_their_defaults(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISCL_NODE__DERIVED__STATION_NAME", "ISCL3")
    settings = load("[scp]\nport = 104\n[derived]\ninstitution_name = 'General Hospital'")
    assert (settings.scp.port, settings.scp.ae_title) == (104, "ISCL_NODE")
    assert settings.derived.site("X") == Site("X", "General Hospital", "", "ISCL3", keep_private=SCAN_FACTS)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgres+psycopg2"])
def test_a_database_url_is_known_by_each_name_of_its_scheme(load: Load, scheme: str) -> None:
    assert load(f"database_url = '{scheme}://user@host/node'").database_url == "postgresql://user@host/node"


def test_another_database_is_refused_without_its_password(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"database_url: .*starts with sqlite:/// or postgresql://") as caught:
        load("database_url = 'mysql://user:secret@host/node'")
    assert "secret" not in str(caught.value)


def test_the_passphrase_goes_with_the_key(load: Load, tmp_path: Path) -> None:
    node = "[scp.tls]\ncertificate = 'node.pem'\nkey = 'node.key'\nca = 'ca.pem'\nkey_password_file = 'node.txt'\n"
    scp = load(node).scp.known_tls()
    assert scp is not None
    assert scp.key_password_file == tmp_path / "node.txt"
    for own, expected in (("{}", tmp_path / "node.txt"), ("{ key = 'own.key' }", None)):
        tls = load(node + PEER + f"tls = {own}").known_peers()[0].tls
        assert tls is not None
        assert tls.key_password_file == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spol_dir = 'x'", 'line 1, spol_dir: there is no such key; did you mean "spool_dir"?'),
        ("\n[scp]\naetitle = 'X'", 'line 3, scp.aetitle: there is no such key; did you mean "ae_title"?'),
        ("[scp]\nretention_hours = 3", "line 2, scp.retention_hours: there is no such key; it belongs into [spool]"),
        ("[scp]\nport = true", "line 2, scp.port: must be a value, not true"),
        ("[scp]\nport = 'high'", "line 2, scp.port: must be a whole number, not 'high'"),
        ("[scp]\nport = 70000", "line 2, scp.port: must be at most 65535, not 70000"),
        ("[scp]\nquiet_seconds = inf", "line 2, scp.quiet_seconds: must be a finite number, not inf"),
        ("[delivery]\nlast_retry_seconds = 1e300", "line 2, delivery.last_retry_seconds: must be at most 31536000,"),
        ("[http]\nhost = 1", 'line 2, http.host: must be text in quotes, as in "text", not 1'),
        ("scp = 3", "line 1, scp: must be a table, as in { key = value }, not 3"),
        (PEER.replace("receive", "recieve"), "or 'echo', not 'recieve'; did you mean \"receive\"?"),
        (PEER + PEER.replace("ORTHANC", "A" * 17), "line 9, peers.1.ae_title: must have at most 16 characters"),
        (
            PEER + "tls = { sever_name = 'x' }",
            'line 7, peers.0.tls.sever_name: there is no such key; did you mean "server',
        ),
        (WEB.replace("https:", "ftp:"), "line 3, dicomweb.0.url: it starts with https:// or http://"),
        (WEB.replace("https://", "https://me:secret@"), "dicomweb.0.url: it has no user"),
        (WEB.replace("https://", "https://host:99999"), "dicomweb.0.url"),
        (WEB + "token_file = 'x'\nuser = { name = 'x', password_file = 'y' }", "only one of them can be sent"),
        (WEB.replace("https:", "http:") + "tls = { ca = 'x' }", "its url does not start with https:"),
        (WEB + "tls = { ca = 'x' }", "peer 'web': tls needs certificate, key and ca"),
        (WEB + PEER.replace('"pacs"', '"web"'), "two peers have the same name"),
        (WEB + 'may = ["store"]', "dicomweb.0.may"),
        ("[[peers]]\nname = 'x'\nhost = 'x'\nmay = []", "line 1, peers.0.ae_title: is missing"),
        ("spool_dir = ", "Invalid value (at"),
    ],
)
def test_a_fault_is_told_in_plain_words(load: Load, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert message in str(caught.value)
    assert "Input should" not in str(caught.value)


def test_a_variable_is_blamed_by_its_own_name(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SCP__PORT", "high"), ("SCP__PROT", "1"), ("SPOL_DIR", "x"), ("PEERS", '[{"name": "x"}]')):
        monkeypatch.setenv(f"ISCL_NODE__{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load("[scp]\nport = 104")
    lines = str(caught.value).splitlines()
    assert "  ISCL_NODE__SCP__PORT: must be a whole number, not 'high'" in lines
    assert '  ISCL_NODE__SCP__PROT: there is no such key; did you mean "port"?' in lines
    assert """  ISCL_NODE__SPOL_DIR: there is no setting 'spol_dir'; did you mean "spool_dir"?""" in lines
    assert "  ISCL_NODE__PEERS: is missing" in lines


def test_a_variable_that_is_no_json_is_a_fault(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISCL_NODE__PEERS", "[broken")
    with pytest.raises(ConfigurationError, match="the environment: "):
        load("")


def test_a_file_that_cannot_be_read_is_told(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "iscl-node.toml"
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
    file.write_bytes("worker_name = 'Zürich'".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        load_settings(file)
    file.write_bytes("\ufeffworker_name = 'Zürich'".encode())
    assert load_settings(file).worker_name == "Zürich"


def test_a_rule_sends_to_a_dicomweb_service(load: Load, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    settings = load(WEB + "user = { name = 'node', password_file = 'password' }\n" + RULE.replace("pacs", "web"))
    (peer,) = settings.known_peers()
    assert (peer.host, peer.port, peer.may_receive, peer.may_store) == ("pacs.hospital", 443, True, False)
    assert peer.web == WebService("https://pacs.hospital/dicom-web")
    assert peer.user == UserIdentity("node", "open sesame")
    assert peer.confirm == "query"
