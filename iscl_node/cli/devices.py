"""One process for each device: a crash takes one device, and each works on one series."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import structlog

from iscl_node.retry import Backoff
from iscl_node.settings import Settings

_log = structlog.get_logger(__name__)

_BACKOFF = Backoff(1, 60)
"""Seconds until a process that ended is started again."""


def of_device(settings: Settings, number: int) -> Settings:
    """The settings of the process for one of the devices; its page and metrics are at a port of their own."""
    devices = settings.bundle.devices
    device = devices[number]
    same = devices[: number + 1].count(device)
    name = f"{settings.worker_name}/{device}" + (f"-{same}" if same > 1 else "")
    http = settings.http.model_copy(update={"port": settings.http.port + 1 + number})
    bundle = settings.bundle.model_copy(update={"device": device, "devices": ()})
    changes = {"worker_name": name, "role": "work", "http": http, "bundle": bundle}
    return settings.model_copy(update=changes)


def of_parent(settings: Settings) -> Settings:
    """The settings of the process that receives while others work, one for each device."""
    return settings.model_copy(update={"role": "receive"})


def end_with_parent() -> None:
    """Have this process end, in peace, when the one that started it is gone: its pipe ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def wait_for_the_end() -> None:
    """Wait for SIGTERM or SIGINT."""
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    signals.get()


class DeviceProcesses:
    """Starts a process for each device, and starts it again whenever it ends.

    Parameters
    ----------
    config : Path
        The settings file.
    devices : int
        How many.
    """

    def __init__(self, config: Path, devices: int) -> None:
        self._config = config
        self._stopping = threading.Event()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._keep, args=(number,), name=f"device {number}") for number in range(devices)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish its running step, and wait for that."""
        with self._lock:
            self._stopping.set()
            for process in self._running.values():
                process.terminate()
        for thread in self._threads:
            thread.join()

    def _keep(self, number: int) -> None:
        tries = 0
        while (process := self._started(number)) is not None:
            code = process.wait()
            if self._stopping.is_set():
                return
            _log.warning("worker.ended", device=number, exit_code=code)
            self._stopping.wait(_BACKOFF.wait_seconds(tries))
            tries += 1

    def _started(self, number: int) -> "subprocess.Popen[bytes] | None":
        with self._lock:
            if self._stopping.is_set():
                return None
            command = [sys.executable, "-m", "iscl_node", "serve", "--config", str(self._config)]
            self._running[number] = subprocess.Popen(
                [*command, "--device", str(number)],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the parent, which stops them
            )
            return self._running[number]
