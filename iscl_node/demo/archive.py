"""Archives that take the derived series: an embedded Storage SCP, or Orthanc."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from iscl_node.demo.processes import Program, get, running
from iscl_node.demo.workplace import Workplace, free_port
from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Peer, ReceivedInstance
from iscl_node.errors import ConfigurationError
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp

HOST = "127.0.0.1"
_READY_SECONDS = 60


class ArchiveKind(StrEnum):
    """Which archive."""

    EMBEDDED = "embedded"
    ORTHANC = "orthanc"


class Archive(Protocol):
    """Something that takes instances by C-STORE."""

    @property
    def peer(self) -> Peer:
        """How the node calls it."""

    def count(self) -> int:
        """How many instances it has; 0 while it does not answer, DemoError if it has ended."""

    def fetch(self) -> None:
        """Put its instances into the workplace's archive folder, as DICOM files."""


def running_archive(
    kind: ArchiveKind, workplace: Workplace, sender: Peer, metrics: Metrics
) -> AbstractContextManager[Archive]:
    """Run an empty archive for the length of a ``with`` block.

    Parameters
    ----------
    kind : ArchiveKind
        Which one.
    workplace : Workplace
        Where it keeps what it gets.
    sender : Peer
        The node.
    metrics : Metrics
        What the embedded one counts on.

    Raises
    ------
    ConfigurationError
        If Orthanc is asked for and not installed.
    DemoError
        If it does not start.
    """
    if kind is ArchiveKind.ORTHANC:
        return _orthanc(workplace, sender)
    return _embedded(workplace, sender, metrics)


class _Embedded:
    """A folder that a Storage SCP fills."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.peer = Peer("archive", "DEMO_ARCHIVE", HOST, 0, confirm="none")

    def store(self, instance: ReceivedInstance) -> None:
        """Write an instance under its UIDs; a repeated one replaces itself."""
        header = read_header(instance.part10)
        folder = self._folder / header.series_instance_uid
        folder.mkdir(exist_ok=True)
        partial = folder / f"{header.sop_instance_uid}.part"
        partial.write_bytes(instance.part10)
        partial.rename(partial.with_suffix(".dcm"))

    def listen(self, port: int) -> None:
        """Note the port that was free."""
        self.peer = replace(self.peer, port=port)

    def count(self) -> int:
        """Count the files."""
        return sum(1 for _ in self._folder.rglob("*.dcm"))

    def fetch(self) -> None:
        """Do nothing: they are there."""


@contextmanager
def _embedded(workplace: Workplace, sender: Peer, metrics: Metrics) -> Iterator[Archive]:
    workplace.archive.mkdir()
    archive = _Embedded(workplace.archive)
    scp = StorageScp(
        ae_title=archive.peer.ae_title,
        host=HOST,
        port=0,
        peers=[sender],
        accept_unknown_peers=False,
        receive=archive.store,
        metrics=metrics,
    )
    scp.start()
    archive.listen(scp.port)
    try:
        yield archive
    finally:
        scp.stop()


class _Orthanc:
    """Orthanc, asked over its REST interface."""

    def __init__(self, peer: Peer, url: str, folder: Path, program: Program) -> None:
        self.peer = peer
        self._url = url
        self._folder = folder
        self._program = program

    def count(self) -> int:
        """Count its instances; 0 while it does not answer."""
        self._program.require_alive()
        try:
            return self._counted()
        except OSError:
            return 0

    def is_empty(self) -> bool:
        """Whether it answers and has nothing; raises OSError while it does not answer."""
        return self._counted() == 0

    def _counted(self) -> int:
        return int(json.loads(get(f"{self._url}/statistics"))["CountInstances"])

    def fetch(self) -> None:
        """Download its instances."""
        self._folder.mkdir()
        for name in json.loads(get(f"{self._url}/instances")):
            (self._folder / f"{name}.dcm").write_bytes(get(f"{self._url}/instances/{name}/file"))


@contextmanager
def _orthanc(workplace: Workplace, sender: Peer) -> Iterator[Archive]:
    executable = shutil.which("Orthanc", path=os.pathsep.join([*os.get_exec_path(), "/usr/sbin"]))
    if executable is None:
        raise ConfigurationError(
            "Orthanc is not installed (Debian package orthanc); the embedded archive needs nothing"
        )
    peer, rest_port = Peer("archive", "ORTHANC", HOST, free_port()), free_port()
    workplace.orthanc.mkdir()
    settings = workplace.orthanc / "orthanc.json"
    settings.write_text(json.dumps(_orthanc_settings(workplace.orthanc, peer, rest_port, sender), indent=2))
    url = f"http://{HOST}:{rest_port}"
    with running("Orthanc", [executable, str(settings)], workplace.orthanc / "orthanc.log") as program:
        archive = _Orthanc(peer, url, workplace.archive, program)
        program.wait_until(archive.is_empty, _READY_SECONDS)
        yield archive


def _orthanc_settings(folder: Path, peer: Peer, rest_port: int, sender: Peer) -> dict[str, object]:
    return {
        "Name": "ISCL Node demo",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": peer.ae_title,
        "DicomPort": peer.port,
        "DicomCheckCalledAet": True,
        "DicomModalities": {sender.name: [sender.ae_title, sender.host, sender.port]},
        "HttpPort": rest_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
