"""A file system of some MiB that can be filled, without being root: a tmpfs in a mount namespace of its own."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from node import wait_for
from required_tools import required_tool

_CHUNK = bytes(4096)


class SmallDisk:
    """It lives as long as the process that holds its namespace; ``root`` is the way to it from outside.

    Parameters
    ----------
    mount_point : Path
        An empty folder; outside the namespace it stays empty.
    mebibytes : int
        Its size.
    """

    def __init__(self, mount_point: Path, mebibytes: int) -> None:
        script = (
            f"mount -t tmpfs -o size={mebibytes}m tmpfs '{mount_point}' && touch '{mount_point}/ready' && sleep 3600"
        )
        command = [required_tool("unshare"), "--user", "--map-root-user", "--mount", "sh", "-c", script]
        self._holder = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        enter = (required_tool("nsenter"), "--target", str(self._holder.pid))
        self.wrapper = (*enter, "--preserve-credentials", "--user", "--mount", "--")
        """Before the command of a program that is to see it at its mount point."""
        self.root = Path(f"/proc/{self._holder.pid}/root{mount_point}")
        wait_for(lambda: self._is_mounted() or self._holder.poll() is not None, "the small disk is mounted")
        if not self._is_mounted():
            _, reason = self._holder.communicate()
            pytest.skip(f"no file system can be mounted here: {reason.strip()}")

    def _is_mounted(self) -> bool:
        return (self.root / "ready").exists()

    def fill(self) -> None:
        """Leave no byte."""
        with (self.root / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(_CHUNK)

    def empty(self) -> None:
        """Have space again."""
        (self.root / "filler").unlink()

    def close(self) -> None:
        """Unmount it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._holder.pid, 9)
        self._holder.wait()
