"""A node that cannot serve does not start, and says what to change."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from node import Node, free_port

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
