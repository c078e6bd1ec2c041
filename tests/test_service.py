"""What the composition root does with the process."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port

from iscl_node.web.limits import listening

_RUN_UNTIL_FROZEN = """
import gc, os, signal, sys, threading, time
from pathlib import Path
from iscl_node.service import Node
from iscl_node.settings import load_settings, spool_memory

def stop():
    end = time.monotonic() + 60
    while not gc.get_freeze_count() and time.monotonic() < end:
        time.sleep(0.05)
    os.write(1, str(gc.get_freeze_count()).encode())
    os.kill(os.getpid(), signal.SIGTERM)

node = Node(load_settings(Path(sys.argv[1])), spool_memory(Path(sys.argv[1])))
threading.Thread(target=stop).start()
node.run()
"""


def test_what_the_start_made_is_out_of_the_garbage_collectors_sight(tmp_path: Path) -> None:
    settings = tmp_path / "node.toml"
    settings.write_text(
        f'spool_dir = "{tmp_path / "spool"}"\n[scp]\nport = {free_port()}\n[http]\nport = {free_port()}\n'
        '[spool]\nmin_free_bytes = 0\n[[rules]]\nname = "none"\nignore = "a test"\n'
    )
    result = subprocess.run(
        [sys.executable, "-c", _RUN_UNTIL_FROZEN, str(settings)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10_000


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="the system has no IPv6 that takes IPv4")
def test_a_socket_for_every_address_takes_both_kinds() -> None:
    with contextlib.closing(listening("::", 0)) as opened:
        port = opened.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), 20).close()
