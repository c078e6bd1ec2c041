"""Who works on a spool holds its lock; the second is told who."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from surroundings import REPOSITORY

from iscl_node.errors import ConfigurationError
from iscl_node.store.lock import LOCK_FILE, hold

HOLDS = (
    "import sys, pathlib; from iscl_node.store.lock import hold; "
    "kept = hold(pathlib.Path(sys.argv[1]), 'node-1', is_shared=False); print('held', flush=True); sys.stdin.read()"
)


def holder(root: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(root)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_second_is_told_who_holds_it_and_has_it_after_the_end_or_a_kill(tmp_path: Path, is_killed: bool) -> None:
    process = holder(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"node 'node-1' \(process {process.pid} on .*PostgreSQL"):
        hold(tmp_path, "node-2", is_shared=False)
    process.kill() if is_killed else process.stdin.close()  # type: ignore[union-attr]
    process.wait()
    hold(tmp_path, "node-2", is_shared=False).close()


def test_nodes_with_postgresql_share_a_spool_but_not_with_one_without(tmp_path: Path) -> None:
    kept = [hold(tmp_path, name, is_shared=True) for name in ("node-1", "node-2")]
    with pytest.raises(ConfigurationError, match="need PostgreSQL, all of them"):
        hold(tmp_path, "node-3", is_shared=False)
    for lock in kept:
        lock.close()
    with hold(tmp_path, "node-3", is_shared=False), pytest.raises(ConfigurationError, match=r"'node-3'.*PostgreSQL"):
        hold(tmp_path, "node-1", is_shared=True)


def test_a_holder_that_did_not_write_who_it_is_is_another_process(tmp_path: Path) -> None:
    with hold(tmp_path, "node-1", is_shared=False):
        (tmp_path / LOCK_FILE).write_bytes(b"")
        with pytest.raises(ConfigurationError, match="another process"):
            hold(tmp_path, "node-2", is_shared=False)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        hold(tmp_path, "node-1", is_shared=False)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.fault("spool", "the disk is full at the start", "the node has its lock, and makes room")
def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, *_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.open", lambda descriptor, *_, **__: Full(descriptor, "r+"))
    with hold(tmp_path, "node-1", is_shared=False), pytest.raises(ConfigurationError):
        hold(tmp_path, "node-2", is_shared=False)
