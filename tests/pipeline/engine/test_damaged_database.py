"""A damaged SQLite workflow database is set aside, and the engine starts with an empty one."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from database_errors import stop_listening
from engine_probe import FEW, PROBE, Probe
from structlog.testing import capture_logs
from test_relied_on import PATIENCE_SECONDS, wait_until

from iscl_node.pipeline.engine.damaged_database import set_aside_if_damaged
from iscl_node.pipeline.engine.database_faults import DatabaseFaults
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.pipeline.engine.words import enqueue, under_way


def header(file: Path) -> None:
    file.write_bytes(b"\xff" * 100 + file.read_bytes()[100:])


def pages(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xaa" * (len(content) - 4096))


def truncation(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2 + 100])


@pytest.mark.fault(
    "machine",
    "the SQLite workflow database is damaged: its header, its pages, or a part is cut off",
    "a line of the log; the file is renamed to `workflows.damaged-<time>.sqlite`, the node starts with an empty one "
    "and begins what the spool asks for",
)
@pytest.mark.parametrize("damage", [header, pages, truncation])
def test_a_damaged_database_is_set_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file = tmp_path / "workflows.sqlite"
    url = f"sqlite:///{file}"
    launch_engine(url, "node-1", "1", [FEW])
    enqueue(FEW, "a", PROBE.note, "a", delay_seconds=86_400)
    stop_engine(PATIENCE_SECONDS)
    damage(file)
    damaged = file.read_bytes()

    probe = Probe.fresh()
    with capture_logs() as logs:
        launch_engine(url, "node-1", "1", [FEW])
    assert under_way() == []
    enqueue(FEW, "b", PROBE.note, "b")
    wait_until(lambda: probe.calls == ["b"])
    stop_engine(PATIENCE_SECONDS)
    (kept,) = tmp_path.glob("workflows.damaged-*.sqlite")
    assert kept.read_bytes() == damaged
    assert [line["event"] for line in logs] == ["database.replaced"]


@pytest.mark.parametrize("content", [None, b""])
def test_a_database_that_is_not_there_is_not_damaged(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "workflows.sqlite"
    if content is not None:
        file.write_bytes(content)
    assert set_aside_if_damaged(f"sqlite:///{file}") is None
    assert set_aside_if_damaged("postgresql://localhost/x") is None


def test_a_healthy_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "workflows.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE a (b)")
    connection.close()
    assert set_aside_if_damaged(f"sqlite:///{file}") is None
    assert file.exists()


@pytest.mark.fault(
    "machine",
    "SQLite finds its file damaged while the node runs",
    "the node stops with exit code 75, and what started it starts it again",
)
def test_damage_stops_a_running_node(tmp_path: Path) -> None:
    file = tmp_path / "workflows.sqlite"
    shutdown, told = Shutdown(), []
    faults = DatabaseFaults(shutdown)
    faults.listen()
    try:
        launch_engine(f"sqlite:///{file}", "node-1", "1", [FEW])
        faults.tell_damage(lambda: told.append("damaged"))
        file.write_bytes(b"\xff" * 8192)
        wait_until(lambda: shutdown.requested and told)
        stop_engine(1)
    finally:
        stop_listening(faults)
    assert faults.is_damaged
