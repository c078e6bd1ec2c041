"""What `status` tells of several nodes, and `init` the database, on a real PostgreSQL."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from postgresql import PostgresqlServer
from typer.testing import CliRunner

from iscl_node.cli import app
from iscl_node.errors import ConfigurationError
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.leases import Lease, taken_lease
from iscl_node.pipeline.engine.workers import Worker
from iscl_node.store.identity import settle_identity


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def config(tmp_path: Path, server: PostgresqlServer) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(f'spool_dir = "{tmp_path / "spool"}"\ndatabase_url = "{server.url("node")}"')
    for folder in ("open", "closed"):
        (tmp_path / "spool" / folder).mkdir(parents=True)
    return file


def status(config: Path) -> str:
    return CliRunner().invoke(app, ["status", "--config", str(config)]).output


def test_status_tells_which_worker_holds_what(config: Path, server: PostgresqlServer) -> None:
    url = server.url("node")
    launch_engine(url, "node-1", "1", [])
    stop_engine(1)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, executor_id, application_version) VALUES "
            "('1.2.3/20260301T120000.000000Z/1/series/0', 'PENDING', 'series', 'node-1', '1'), "
            "('report/1.2', 'PENDING', 'report', 'node-1', '1'), "
            "('1.2.4/20260301T120000.000000Z/1/vault/send/0/0', 'PENDING', 'delivery', 'gone', '1')"
        )
    lease = taken_lease(url, Worker("node-1", "work", "1"))
    try:
        told = json.loads(CliRunner().invoke(app, ["status", "--config", str(config), "--json"]).stdout)["workers"]
        known = {each["worker"]: each for each in told}
        assert known["node-1"]["state"] in {"alive", "leads"}
        assert known["node-1"]["batches"] == ["1.2.3 20260301T120000.000000Z"]
        assert (known["gone"]["state"], known["gone"]["role"]) == ("dead", "unknown")
        text = " ".join(status(config).split())
        assert f"worker node-1 (work, process {os.getpid()} on" in text
        assert "dead; works on 1.2.4 20260301T120000.000000Z" in text
    finally:
        lease.stop()


@pytest.mark.fault(
    "machine", "PostgreSQL does not answer `iscl-node status`", "it shows what is in the spool all the same"
)
def test_status_without_the_database(config: Path, server: PostgresqlServer) -> None:
    server.stop()
    text = status(config)
    assert "workers not known: the workflow database cannot be used" in text
    assert "quarantine" in text


@pytest.mark.fault(
    "machine",
    "a worker is started on another spool than the one of its PostgreSQL, because the disk is not mounted there",
    "exit code 2; `iscl-node init` has the database belong to another spool",
)
def test_the_database_belongs_to_one_spool(config: Path, server: PostgresqlServer, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["init", "--config", str(config)]).exit_code == 0
    lease = taken_lease(server.url("node"), Worker("node-1", "work", "1"))
    assert isinstance(lease, Lease)
    try:
        known = lease.spool_id()
        assert settle_identity(tmp_path / "spool", tmp_path / "a.spool", "1", known) == known
        (tmp_path / "mount point").mkdir()
        with pytest.raises(ConfigurationError, match=r"is its disk mounted.*the workflow database names"):
            settle_identity(tmp_path / "mount point", tmp_path / "b.spool", "1", known)
        assert list((tmp_path / "mount point").iterdir()) == []
        lease.belong_to("another")
        assert lease.spool_id() == "another"
    finally:
        lease.stop()
