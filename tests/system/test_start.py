"""A node that cannot serve does not start, and says what to change."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from node import PATIENCE_SECONDS, Node
from ports import free_port

pytestmark = pytest.mark.peers

WRONG_CONFIGURATION = 2


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.parametrize("section", ["scp", "http"])
@pytest.mark.fault("machine", "a port is taken at the start", "exit code 2 and the name of the setting")
def test_taken_port_is_told(section: str, taken_port: int, tmp_path: Path, bundle: Path) -> None:
    node = Node(tmp_path, free_port(), bundle, ports={section: taken_port})

    started = node.command("serve")

    assert started.returncode == WRONG_CONFIGURATION, started.stderr
    assert f"{section}.port" in started.stderr
    assert "Traceback" not in started.stderr


@pytest.mark.fault(
    "machine",
    "a second node is started on the spool of a running one, without PostgreSQL",
    "exit code 2 and who holds it; the first goes on",
)
def test_a_second_node_on_one_spool_does_not_start(tmp_path: Path, bundle: Path) -> None:
    node = Node(tmp_path, free_port(), bundle)
    with hold_by(node):
        started = node.command("serve")
    assert started.returncode == WRONG_CONFIGURATION, started.stderr
    assert "is in use by node 'node-1' (process" in " ".join(started.stderr.split())


@contextmanager
def hold_by(node: Node) -> Iterator[None]:
    """The node runs."""
    node.start()
    try:
        yield
    finally:
        node.terminate()
        assert node.exit_code(PATIENCE_SECONDS) == 0


@pytest.mark.fault(
    "machine",
    "the folder of the spool is empty at a later start, because its disk is not mounted",
    "exit code 2; `iscl-node init` starts with a new one",
)
def test_an_unmounted_spool_is_not_made_anew(tmp_path: Path, bundle: Path) -> None:
    node = Node(tmp_path, free_port(), bundle)
    assert node.command("init").returncode == 0
    shutil.rmtree(node.spool)
    node.spool.mkdir()
    started = node.command("serve")
    assert started.returncode == WRONG_CONFIGURATION, started.stderr
    assert "is its disk mounted?" in " ".join(started.stderr.split())
    assert list(node.spool.iterdir()) == []
    assert node.command("init").returncode == 0
    with hold_by(node):
        pass
