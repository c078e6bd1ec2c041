"""The real node as a process of its own: settings, start, stop, kill, and what can be seen of it from outside."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from ports import free_port as free_port
from prometheus_client.parser import text_string_to_metric_families
from required_tools import required_tool as required_tool

from iscl_node.denoise.bundle_digest import bundle_digest

AE_TITLE = "ISCL_NODE"
SENDER = "SENDER"
PATIENCE_SECONDS = 90
"""For what must happen; generous, because it is only waited in full when a test fails."""

_POLL_SECONDS = 0.02
_LOG_TAIL_LINES = 30

_SETTINGS = """\
spool_dir = "{node.spool}"
[scp]
ae_title = "{our_ae_title}"
host = "127.0.0.1"
port = {node.port}
quiet_seconds = {quiet_seconds}
[http]
port = {http_port}
[bundle]
path = "{node.bundle}"
digest = "{digest}"
device = "cpu"
[spool]
min_free_bytes = 0
[delivery]
first_retry_seconds = 0.2
last_retry_seconds = 0.5
[[peers]]
name = "sender"
ae_title = "{sender}"
host = "127.0.0.1"
port = 104
may = ["store"]
[[peers]]
name = "archive"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive_port}
may = ["store", "receive"]
confirm = "{confirm}"
[[rules]]
name = "two strengths"
when = {{ ProtocolName = "TWO STRENGTHS" }}
strength = [0.5, 1.0]
send_to = ["archive"]
[[rules]]
name = "CT"
when = {{ Modality = "CT" }}
send_to = ["archive"]
{rule}
"""
"""Of a node with one sender, one archive and two rules."""

Result = TypeVar("Result")


def wait_for(
    condition: Callable[[], Result], what: str, explain: Callable[[], str] = str, seconds: float = PATIENCE_SECONDS
) -> Result:
    """Look until the condition holds and return what it gave; fail the test if it never does.

    Parameters
    ----------
    condition : callable
        Asked again and again until the result is true.
    what : str
        What is waited for, in words.
    explain : callable
        Asked once, on failure, for more to show.
    seconds : float
        When to give up.
    """
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain for: {what}\n{explain()}")
        time.sleep(_POLL_SECONDS)
    return result


class Node:
    """One node with its own spool, database and ports; the same over every restart.

    Parameters
    ----------
    folder : Path
        For everything it writes.
    archive_port : int
        Where its only destination listens, with the AE title ``ARCHIVE``.
    bundle : Path
        The model.
    quiet_seconds : float
        When a series is closed.
    ports : mapping of str to int
        Instead of free ones, by section of the settings: 'scp', 'http'.
    rule : str
        Further lines of its only rule.
    confirm : str
        How the archive tells that it keeps what it got; 'none' suits one that can only store.
    """

    def __init__(
        self,
        folder: Path,
        archive_port: int,
        bundle: Path,
        quiet_seconds: float = 0.5,
        ports: Mapping[str, int] | None = None,
        rule: str = "",
        confirm: str = "none",
    ) -> None:
        ports = {"scp": free_port(), "http": free_port(), **(ports or {})}
        self.port, self.http_port = ports["scp"], ports["http"]
        self.bundle = bundle
        self.spool = folder / "spool"
        self.wrapper: Sequence[str] = ()
        """A program, with its arguments, that starts the node's."""
        self._config = folder / "node.toml"
        self._log = folder / "node.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(self._settings(archive_port, quiet_seconds, rule, confirm))

    def _settings(self, archive_port: int, quiet_seconds: float, rule: str, confirm: str) -> str:
        return _SETTINGS.format(
            node=self,
            digest=bundle_digest(self.bundle),
            http_port=self.http_port,
            our_ae_title=AE_TITLE,
            sender=SENDER,
            archive_port=archive_port,
            quiet_seconds=quiet_seconds,
            rule=rule,
            confirm=confirm,
        )

    def change_settings(self, old: str, new: str) -> None:
        """Put other text in the place of some of its settings; the next start reads them."""
        text = self._config.read_text()
        assert old in text
        self._config.write_text(text.replace(old, new))

    # Life and death

    def start(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Start the program and wait until it says that it is ready."""
        self.begin()
        wait_for(self._is_ready, "the node is ready", self.log_tail, seconds)

    def begin(self) -> None:
        """Start the program."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ISCL_NODE_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", "iscl_node", "serve", "--config", str(self._config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment | {"OMP_NUM_THREADS": "1"},
            )

    def terminate(self) -> None:
        """Ask it to stop, as an operating system does."""
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    def exit_code(self, seconds: float) -> int:
        """Wait until it has ended."""
        return self._running().wait(seconds)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        os.killpg(self._running().pid, signal.SIGKILL)
        self._running().wait()

    def close(self) -> None:
        """Make sure that nothing is left running after a test."""
        if self._process is not None and self.is_running:
            self.kill()

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def peak_memory_bytes(self) -> int:
        """The most memory that the running process ever had (VmHWM, proc(5))."""
        if not self.is_running:
            pytest.fail(f"the node ended by itself\n{self.log_tail()}")
        status = Path(f"/proc/{self._running().pid}/status").read_text()
        (kibibytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return 1024 * int(kibibytes)

    @property
    def process_id(self) -> int:
        """Of the running program."""
        return self._running().pid

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "the node was never started"
        return self._process

    def _is_ready(self) -> bool:
        if not self.is_running:
            pytest.fail(f"the node ended by itself\n{self.log_tail()}")
        return self._says_ready()

    def _says_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (URLError, TimeoutError, ConnectionError):
            return False

    # Seen from outside

    def wait_for(self, condition: Callable[[], Result], what: str, seconds: float = PATIENCE_SECONDS) -> Result:
        """See the function `wait_for`; a failure shows the end of the node's log."""
        return wait_for(condition, what, self.log_tail, seconds)

    def log_tail(self) -> str:
        """The end of what it logged."""
        return "\n".join(self.log().splitlines()[-_LOG_TAIL_LINES:])

    def log(self) -> str:
        """All that it logged."""
        return self._log.read_text(errors="replace")

    def page(self, name: str) -> bytes:
        """What it answers over HTTP: 'metrics', 'healthz' or 'readyz'."""
        with urlopen(f"http://127.0.0.1:{self.http_port}/{name}", timeout=10) as response:
            return bytes(response.read())

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a further command of the program with this node's settings."""
        return subprocess.run(
            [sys.executable, "-m", "iscl_node", *arguments, "--config", str(self._config)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """What ``iscl-node status --json`` prints."""
        answer: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return answer

    def metric(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """The value of one sample at ``/metrics``; 0 if it is not there yet."""
        families = list(text_string_to_metric_families(self.page("metrics").decode()))
        samples = (sample for family in families for sample in family.samples)
        return next((s.value for s in samples if s.name == name and s.labels == dict(labels or {})), 0.0)

    def files(self, state: str, series_uid: str) -> list[Path]:
        """The instances of a series in one of the spool's folders; 'outbox' is one of them."""
        # os.walk, unlike Path.rglob, takes no offence when the node moves a folder meanwhile.
        tree = os.walk(self.spool / state / series_uid)
        return sorted(Path(folder, name) for folder, _, names in tree for name in names if name.endswith(".dcm"))

    def states(self, series_uid: str) -> set[str]:
        """Where the spool holds anything of a series; the outbox that a done one keeps is not told."""
        folders = ("receiving", "open", "closed", "sent", "done", "ignored", "quarantine", "outbox")
        found = {folder for folder in folders if self.files(folder, series_uid)}
        return found - {"outbox"} if "done" in found else found

    def steps_done(self, series_uid: str) -> list[str] | None:
        """The names of the steps that the workflow database holds for a series; None before its work began."""
        work = "SELECT 1 FROM workflow_status WHERE status = 'PENDING' AND workflow_uuid LIKE ?"
        steps = "SELECT function_name FROM operation_outputs WHERE workflow_uuid LIKE ? ORDER BY function_id"
        database = sqlite3.connect(f"file:{self.spool / 'workflows.sqlite'}?mode=ro", uri=True, timeout=30)
        try:
            pattern = (f"{series_uid}/%",)
            done = [str(name) for (name,) in database.execute(steps, pattern)]
            return done if done or database.execute(work, pattern).fetchone() else None
        finally:
            database.close()

    def workflows(self, name: str = "") -> int:
        """How many workflows, of a name or of any, wait, are delayed or run."""
        unended = "SELECT COUNT(*) FROM workflow_status WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')"
        database = sqlite3.connect(f"file:{self.spool / 'workflows.sqlite'}?mode=ro", uri=True, timeout=30)
        try:
            (count,) = database.execute(f"{unended} AND ? IN ('', name)", (name,)).fetchone()
            return int(count)
        finally:
            database.close()


MakeNode = Callable[..., Node]
"""Type of the fixture ``make_node``."""
