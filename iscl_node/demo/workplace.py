"""The folder of the demonstration: what is downloaded stays, everything else is made anew by each run."""

import contextlib
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from iscl_node.errors import ConfigurationError

_MARK = ".iscl-node-demo"
_MADE_ANEW = (
    "normal_dose",
    "low_dose",
    "spool",
    "archive",
    "orthanc",
    "node.toml",
    "node.spool",
    "node.log",
    "demo.log",
    "report.png",
)


@dataclass(frozen=True)
class Workplace:
    """Where everything lies, below one folder."""

    folder: Path

    @property
    def downloads(self) -> Path:
        """What is kept from run to run."""
        return self.folder / "downloads"

    @property
    def normal_dose(self) -> Path:
        """The series made of the real CT."""
        return self.folder / "normal_dose"

    @property
    def low_dose(self) -> Path:
        """Its low-dose copy, which is pushed to the node."""
        return self.folder / "low_dose"

    @property
    def spool(self) -> Path:
        """The node's spool."""
        return self.folder / "spool"

    @property
    def archive(self) -> Path:
        """The derived instances as the archive has them."""
        return self.folder / "archive"

    @property
    def orthanc(self) -> Path:
        """Orthanc's settings, log, index and storage."""
        return self.folder / "orthanc"

    @property
    def report(self) -> Path:
        """The figure."""
        return self.folder / "report.png"

    @property
    def log(self) -> Path:
        """What sender and embedded archive log."""
        return self.folder / "demo.log"


def open_workplace(folder: Path) -> Workplace:
    """Take the folder, without the results of an earlier run.

    Raises
    ------
    ConfigurationError
        If the folder holds something else than a demonstration, so that nothing of it is deleted.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and ((folder / _MARK).exists() or not any(folder.iterdir()))):
        raise ConfigurationError(f"{folder} holds something else than the demo; choose another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    for name in _MADE_ANEW:
        _remove(folder / name)
    return Workplace(folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def free_port() -> int:
    """A TCP port of this machine that is free now, and that Linux gives to no outgoing connection."""
    while True:
        port = secrets.randbelow(22_528) + 10_240
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
