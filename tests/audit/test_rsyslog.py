"""The real rsyslog, with config/rsyslog-audit.conf, has every audit message, though it is stopped and killed."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from certificates import Authority
from ports import free_port
from prometheus_client import CollectorRegistry
from required_tools import required_tool
from surroundings import REPOSITORY

from iscl_node.assembly.auditing import connected
from iscl_node.audit.forwarding import Forwarding
from iscl_node.audit.journal import Journal
from iscl_node.domain import SyslogServer
from iscl_node.metrics import Metrics

pytestmark = pytest.mark.peers

PATIENCE_SECONDS = 180


class Rsyslog:
    """An rsyslogd with the configuration of the repository."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.port = free_port()
        self._folder = folder
        self._file = folder / "nodes.log"
        ours = authority.issue("syslog")
        for name, path in (("ca", ours.ca), ("certificate", ours.certificate), ("key", ours.key)):
            shutil.copy(path, folder / f"{name}.pem")
        names = {"FILE": self._file, "WORK": folder, "TLS": folder, "PORT": self.port}
        self._environment = os.environ | {f"AUDIT_{name}": str(value) for name, value in names.items()}
        self.start()

    def start(self) -> None:
        configuration = REPOSITORY / "config" / "rsyslog-audit.conf"
        command = [required_tool("rsyslogd"), "-n", "-f", str(configuration), "-i", str(self._folder / "pid")]
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)

    def messages(self) -> list[bytes]:
        return self._file.read_bytes().splitlines() if self._file.exists() else []

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self._folder / "output").read_text(errors="replace")[-4000:]
            time.sleep(0.05)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "certificates").mkdir()
    return Authority(tmp_path / "certificates")


@pytest.fixture
def rsyslog(tmp_path: Path, authority: Authority) -> Iterator[Rsyslog]:
    required_tool("rsyslogd")
    if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        pytest.skip("rsyslog has no TLS here (Debian package: rsyslog-gnutls)")
    folder = tmp_path / "rsyslog"
    folder.mkdir()
    running = Rsyslog(folder, authority)
    yield running
    running.kill()


@pytest.fixture
def journal(tmp_path: Path, authority: Authority, rsyslog: Rsyslog) -> Iterator[Journal]:
    """The node's journal, which is brought to rsyslog."""
    journal = Journal(tmp_path / "journal", 1 << 30)
    server = SyslogServer("localhost", rsyslog.port, authority.issue("node"))
    forwarding = Forwarding(journal, partial(connected, server), Metrics(CollectorRegistry()))
    forwarding.start()
    yield journal
    forwarding.stop(0)


def message(number: int) -> bytes:
    """As the node writes it; every seventh is long."""
    text = f'<AuditMessage n="{number}">Zoë {"x" * (100_000 if number % 7 == 0 else 10)}</AuditMessage>'
    return f"<85>1 2026-03-01T12:00:00.000000+00:00 ct-node iscl-node 1 DICOM+RFC3881 - \ufeff{text}".encode()


@pytest.mark.fault(
    "machine",
    "rsyslog, as the server of the audit trail, is stopped, restarted and killed",
    "it has every audit message as it was written, in its order",
)
def test_rsyslog_has_every_message_whatever_happens_to_it(rsyslog: Rsyslog, journal: Journal) -> None:
    written: list[bytes] = []

    def write(count: int) -> None:
        for _ in range(count):
            written.append(message(len(written)))
            journal.append(written[-1])

    def has_all() -> bool:
        return set(written) <= set(rsyslog.messages())

    write(8)
    rsyslog.wait_for(has_all)
    for end in (rsyslog.stop, rsyslog.kill):
        end()
        write(5)
        rsyslog.start()
        write(3)
        rsyslog.wait_for(has_all)
    rsyslog.stop()
    rsyslog.start()
    write(1)
    rsyslog.wait_for(has_all)
    assert list(dict.fromkeys(rsyslog.messages())) == written
