"""Reads instances from files: the only place of this room that touches a disk, for the command line."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, TypeAlias

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from iscl_node.dicom.reading.corrections import correct
from iscl_node.dicom.reading.header import may_be_dicom, read_file_header
from iscl_node.dicom.reading.legible import check_legible
from iscl_node.dicom.reading.repetition import differences, listed
from iscl_node.errors import IsclNodeError, QuarantineSeriesError, RejectInstanceError

Instance: TypeAlias = Dataset
"""A DICOM instance, for rooms that hand instances on without looking into them."""

START_LENGTH: Final = 132
"""The preamble and ``DICM``, with which every DICOM file should start (PS3.10 7.1)."""
DICOMDIR: Final = "DICOMDIR"
"""The directory of a medium (PS3.10 8.6), by its only allowed name."""
DEFERRED_SIZE: Final = "16 KB"
"""Longer values, the pixels above all, stay on disk until they are asked for."""

_READ_AT_ONCE: Final = 16 << 20
"""Bytes of a file: a CT Image has 0.5 to 8 MiB, instances of many frames more, of which one is looked at at a time."""


@dataclass(frozen=True)
class SkippedFile:
    """A file that holds no readable instance, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FolderContent:
    """What a folder holds: instances by Series Instance UID, each with its path as ``filename``, and the rest."""

    series: dict[str, list[FileDataset]]
    skipped: tuple[SkippedFile, ...]


def read_instance(path: Path) -> FileDataset:
    """Read one DICOM file that ``header`` took; its pixels are read when they are first used.

    What is written otherwise than it is meant is corrected (``corrections.correct``).

    Raises
    ------
    QuarantineSeriesError
        As ``legible.check_legible``, or if it is no instance.
    """
    return _legible(path, DEFERRED_SIZE)


def read_with_pixels(path: Path) -> FileDataset:
    """Do the same in one reading of the file, for who uses the pixels next; those of a large file are deferred, too.

    Raises
    ------
    QuarantineSeriesError
        As ``legible.check_legible``.
    """
    return _legible(path, DEFERRED_SIZE if path.stat().st_size > _READ_AT_ONCE else None)


def _legible(path: Path, defer_size: str | None) -> FileDataset:
    return checked(dcmread(path, defer_size=defer_size, force=True))


def checked(instance: FileDataset) -> FileDataset:
    """Correct what was read of a file, and make sure that it can be used.

    Raises
    ------
    QuarantineSeriesError
        As ``legible.check_legible``, or if it is no instance.
    """
    correct(instance)
    if "SOPClassUID" not in instance:  # without a preamble nearly every file parses as something
        raise QuarantineSeriesError("no SOP Class UID: not a DICOM instance")
    check_legible(instance)
    return instance


def differing(one: bytes, other: bytes) -> str:
    """Return in what two instances of one SOP Instance UID differ; empty if they are one image."""
    try:
        return listed(differences(_parsed(one), _parsed(other)))
    except (IsclNodeError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
        return "what cannot be compared"


def _parsed(content: bytes) -> FileDataset:
    instance = dcmread(BytesIO(content), force=True)
    correct(instance)
    return instance


def read_folder(path: Path) -> FolderContent:
    """Read every instance in a folder and the folders below it, in the order of the paths, or a single file."""
    series: dict[str, list[FileDataset]] = {}
    skipped: list[SkippedFile] = []
    for file in sorted(each for each in [path, *path.rglob("*")] if each.is_file()):
        try:
            series.setdefault(_series_uid(file), []).append(read_instance(file))
        except (RejectInstanceError, QuarantineSeriesError) as fault:
            skipped.append(SkippedFile(file, str(fault)))
    return FolderContent(series, tuple(skipped))


def _series_uid(file: Path) -> str:
    if file.name == DICOMDIR:
        raise RejectInstanceError(0xC000, "the directory of a medium, not an instance")
    with file.open("rb") as stream:
        start = stream.read(START_LENGTH)
        if not may_be_dicom(start):
            raise RejectInstanceError(0xC000, "not a DICOM file")
        return read_file_header(start + stream.read()).series_instance_uid
