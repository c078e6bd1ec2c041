"""What ``iscl-node check`` looks for beside the settings, who may run a command, and how far a long one is."""

import os
import socket
from io import StringIO
from pathlib import Path

import pytest
from ports import free_port
from rich.console import Console
from typer.testing import CliRunner

from iscl_node.cli import app
from iscl_node.cli import checking as checks
from iscl_node.cli.progress import Progress
from iscl_node.cli.users import check_user
from iscl_node.errors import ConfigurationError
from iscl_node.pipeline.engine.reachable import check_database
from iscl_node.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    ports = free_port(), free_port()
    file = tmp_path / "node.toml"
    file.write_text(
        '[scp]\nhost = "127.0.0.1"\nport = {}\n[http]\nport = {}\n[spool]\nmin_free_bytes = 0\n'.format(*ports)
    )
    return load_settings(file)


def test_a_first_start_has_all_it_needs(settings: Settings) -> None:
    report = checks._checked_surroundings(settings)
    assert report["spool"].startswith(f"{settings.spool_dir} (to be made), on /")
    assert report["scp port"] == f"127.0.0.1:{settings.scp.port} is free"
    assert report["http port"] == f"127.0.0.1:{settings.http.port} is free"
    assert report["database"] == "can be used"


def test_a_port_that_is_taken_is_a_fault(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.scp.port)):
        report = checks._checked_surroundings(settings)
    assert report["scp port"] == (
        f"FAILED: 127.0.0.1:{settings.scp.port}: Address already in use; see [scp] host and port"
    )


def test_a_disk_with_less_than_the_reserve_is_warned_of(settings: Settings) -> None:
    spool = settings.spool.model_copy(update={"min_free_bytes": 1 << 62})
    full = settings.model_copy(update={"spool": spool})
    assert checks._spool_told(full).startswith("WARNING: ")
    assert "every instance would be refused" in checks._spool_told(full)


def test_a_database_that_cannot_be_reached_is_a_fault_without_its_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match="it cannot be used: ") as caught:
        check_database(f"postgresql://node:hidden@127.0.0.1:{port}/node")
    assert "hidden" not in str(caught.value)
    (tmp_path / "damaged.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match="it cannot be used: "):
        check_database(f"sqlite:///{tmp_path}/damaged.sqlite")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_spool_of_another_user_is_left_to_that_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = tmp_path / "spool"
    check_user(spool, "status", changes=False)  # there is none
    spool.mkdir(mode=0o700)
    check_user(spool, "requeue", changes=True)
    os.chown(spool, 12345, -1)
    check_user(spool, "status", changes=False)
    with pytest.raises(ConfigurationError, match=r"belongs to user #12345: .*: sudo -u #12345 iscl-node requeue$"):
        check_user(spool, "requeue", changes=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="sudo -u #12345 iscl-node status"):
        check_user(spool, "status", changes=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_root_makes_no_spool_in_another_s_folder(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(f'spool_dir = "{tmp_path / "state" / "node" / "spool"}"\n')
    (tmp_path / "state").mkdir()
    command = ["init", "--config", str(tmp_path / "node.toml")]
    os.chown(tmp_path / "state", 12345, -1)
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "sudo -u #12345 iscl-node init" in " ".join(refused.output.split())
    assert not list((tmp_path / "state").iterdir())
    os.chown(tmp_path / "state", 0, -1)
    assert CliRunner().invoke(app, command).exit_code == 0
    os.chown(tmp_path / "state" / "node" / "spool", 12345, -1)
    assert CliRunner().invoke(app, command).exit_code == 2


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_pipe_gets_a_line_now_and_then() -> None:
    stream, clock = StringIO(), Clock()
    with Progress(Console(file=stream, width=200), clock) as progress:
        progress.expect(100)
        for _ in range(50):
            clock.seconds += 2
            progress.advance()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "5 of 100 instances, about 3 min 10 s left"
    assert len(lines) == 10


def test_a_terminal_shows_how_much_is_left() -> None:
    clock = Clock()
    console = Console(file=StringIO(), force_terminal=True, width=200)
    with Progress(console, clock) as progress:
        progress.expect(10_000)
        clock.seconds += 10
        progress.advance()
        assert progress._text(clock()) == "1 of 10000 instances, about 27 h 46 min left"
        progress.expect(-9_999)
        assert progress._text(clock()) == "1 instances"
