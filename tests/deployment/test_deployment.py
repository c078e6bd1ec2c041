"""The files that put the node into a hospital fit together, and fit the code."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from surroundings import REPOSITORY, required_program

from iscl_node.assembly.engine import LAST_STEP_SECONDS
from iscl_node.metrics import Metrics
from iscl_node.settings import load_settings

DOCKER = REPOSITORY / "docker"
CONFIG = REPOSITORY / "config"


def run(*command: str | Path) -> None:
    result = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return content


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its arguments."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_prometheus_takes_its_configuration_and_rules() -> None:
    run(required_program("promtool", "prometheus"), "check", "config", CONFIG / "prometheus.yml")


def test_alerts_fire_when_they_should() -> None:
    program = required_program("promtool", "prometheus")
    run(program, "test", "rules", REPOSITORY / "tests" / "deployment" / "alerts_test.yml")


def test_alerts_ask_for_metrics_that_exist() -> None:
    known = {sample.name for metric in Metrics(CollectorRegistry()).registry.collect() for sample in metric.samples}
    known |= {metric.name for metric in Metrics(CollectorRegistry()).registry.collect()}
    asked = set(re.findall(r"iscl_node_\w+", (CONFIG / "alerts.yml").read_text()))
    assert asked
    assert {name.removesuffix("_total") for name in asked} <= {name.removesuffix("_total") for name in known}


def test_every_alert_is_tested() -> None:
    rules = yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"][0]["rules"]
    cases = yaml.safe_load((REPOSITORY / "tests" / "deployment" / "alerts_test.yml").read_text())["tests"]
    fired = {each["alertname"] for case in cases for each in case["alert_rule_test"] if each["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules}


@pytest.mark.parametrize("file", [CONFIG / "iscl-node.toml", DOCKER / "iscl-node.toml"], ids=["config", "docker"])
def test_the_settings_files_are_good(file: Path) -> None:
    assert load_settings(file).rules


def test_compose_refers_to_what_exists(compose: dict[str, Any]) -> None:
    named = set(compose["volumes"])
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DOCKER / source).is_file() if source.startswith(".") else source in named
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        build = service.get("build")
        if build:
            assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
        else:
            assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+(\.\d+)+", service["image"]), "an image by its version"


def test_a_stopped_container_has_time_for_the_step_in_hand(compose: dict[str, Any]) -> None:
    seconds = int(compose["services"]["iscl-node"]["stop_grace_period"].removesuffix("s"))
    assert seconds > LAST_STEP_SECONDS


def test_pages_without_a_password_stay_on_the_machine(compose: dict[str, Any]) -> None:
    published = {port for service in compose["services"].values() for port in service["ports"]}
    assert {port for port in published if not port.startswith("127.0.0.1:")} == {"11112:11112", "4242:4242"}


def test_the_services_know_each_other(compose: dict[str, Any]) -> None:
    settings = load_settings(DOCKER / "iscl-node.toml")
    orthanc = json.loads((DOCKER / "orthanc.json").read_text())
    peer = settings.known_peers()[0]
    assert (peer.ae_title, peer.host, peer.port) == (orthanc["DicomAet"], "orthanc", orthanc["DicomPort"])
    assert orthanc["DicomModalities"]["iscl-node"] == [settings.scp.ae_title, "iscl-node", settings.scp.port]
    scraped = yaml.safe_load((CONFIG / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert scraped[0]["targets"] == [f"iscl-node:{settings.http.port}"]
    assert {"orthanc", "iscl-node"} <= set(compose["services"])


def test_the_archive_keeps_what_it_stores_on_its_volume(compose: dict[str, Any]) -> None:
    orthanc = json.loads((DOCKER / "orthanc.json").read_text())
    mounts = {source: target for source, target, *_ in map(split, compose["services"]["orthanc"]["volumes"])}
    assert orthanc["StorageDirectory"] == orthanc["IndexDirectory"] == mounts["orthanc-data"]


def split(volume: str) -> list[str]:
    return volume.split(":")


def test_no_web_framework_with_a_known_hole_is_taken() -> None:
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "starlette>=1.0.1" in wanted  # CVE-2026-48710
    pinned = re.search(r"^starlette==(\d+)\.(\d+)\.(\d+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert tuple(map(int, pinned.groups())) >= (1, 0, 1)


def test_docker_compose_understands_the_file() -> None:
    docker = shutil.which("docker")
    version = [docker, "compose", "version"] if docker else ["false"]
    if subprocess.run(version, capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    run("docker", "compose", "-f", DOCKER / "compose.yaml", "config", "--quiet")


def test_the_image_runs_as_nobody_special_and_tells_its_health() -> None:
    instructions = dict(dockerfile())
    assert instructions["USER"] not in {"root", "0"}
    assert "/healthz" in instructions["HEALTHCHECK"]
    assert instructions["STOPSIGNAL"] == "SIGTERM"
    assert instructions["VOLUME"] == "/var/lib/iscl-node"
    assert instructions["EXPOSE"] == "11112 9464"
    assert re.fullmatch(r"python:3\.\d+-slim", instructions["FROM"])
    assert "--constraint constraints.txt" in " ".join(text for name, text in dockerfile() if name == "RUN")


def test_the_image_is_made_of_files_that_exist_and_are_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, text in dockerfile():
        if name == "COPY":
            for source in shlex.split(text)[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert source in sent, f"{source} is kept back by .dockerignore"


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    pinned = {line.split("==")[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {canonical(each) for each in wanted} <= {canonical(each) for each in pinned}


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name.group()).lower()
