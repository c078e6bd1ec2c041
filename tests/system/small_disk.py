"""A file system of some MiB that can be filled, without being root: a tmpfs in a mount namespace of its own."""

import contextlib
import os
import shutil
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
        mount = f"mount -t tmpfs -o size={mebibytes}m tmpfs '{mount_point}'"
        script = f"{mount} && mkdir '{mount_point}/lost+found' && sleep 3600"
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
        return (self.root / "lost+found").exists()

    def fill(self, leaving: int = 0) -> None:
        """Leave no byte, or so many."""
        with (self.root / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while shutil.disk_usage(self.root).free > leaving or not leaving:
                filler.write(_CHUNK)

    def empty(self) -> None:
        """Have space again."""
        (self.root / "filler").unlink()

    def close(self) -> None:
        """Unmount it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._holder.pid, 9)
        self._holder.wait()
