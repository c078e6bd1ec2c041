"""Programs that the demonstration starts, watches and stops, and the HTTP they answer by on this machine."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from iscl_node.demo.failure import DemoError

_STOP_SECONDS = 60
_HTTP_SECONDS = 10
_LOG_TAIL_LINES = 15
_POLL_SECONDS = 0.25

_opener = build_opener(ProxyHandler({}))  # a proxy of the environment is not for this machine


def get(url: str) -> bytes:
    """GET a page of this machine.

    Raises
    ------
    OSError
        If there is no answer or it is not a success (URLError and HTTPError are OSErrors).
    """
    with _opener.open(url, timeout=_HTTP_SECONDS) as answer:
        content: bytes = answer.read()
    return content


class Program:
    """A running program.

    Parameters
    ----------
    name : str
        For messages.
    process : subprocess.Popen
        The process.
    log : Path
        Where its output goes.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    def require_alive(self) -> None:
        """Raise DemoError, with the end of the log, if the program has ended."""
        if self._process.poll() is not None:
            raise self.failure(f"{self._name} ended with exit code {self._process.returncode}")

    def failure(self, what: str) -> DemoError:
        """An error that shows the end of the log."""
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return DemoError("\n".join([f"{what}; the end of {self._log}:", *lines]))

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until the program is ready; a refused connection counts as not yet.

        Raises
        ------
        DemoError
            If it ends or the time is over.
        """
        end = time.monotonic() + seconds
        while not _holds(condition):
            self.require_alive()
            if time.monotonic() > end:
                raise self.failure(f"{self._name} is not ready after {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask the program to end (SIGTERM), and make it end if it does not."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(name: str, command: Sequence[str], log: Path) -> Iterator[Program]:
    """Run a program for the length of a ``with`` block.

    Raises
    ------
    DemoError
        If it cannot be started.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            raise DemoError(f"{name} cannot be started: {error}") from error
    program = Program(name, process, log)
    try:
        yield program
    finally:
        program.stop()


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:
        return False
