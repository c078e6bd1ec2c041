"""Reads instances from files: the only place of this room that touches a disk, for the command line."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, TypeAlias

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from iscl_node.dicom.reading.corrections import correct
from iscl_node.dicom.reading.header import DIRECTORY, may_be_dicom, read_file_header
from iscl_node.dicom.reading.legible import check_legible
from iscl_node.dicom.reading.repetition import differences, listed
from iscl_node.domain import CT_STORAGE, InstanceHeader
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
class IllegibleSeries:
    """A CT series of which an instance says something that cannot be read, and what: a person decides of all of it."""

    series_instance_uid: str
    instances: int
    reason: str


@dataclass(frozen=True)
class FolderContent:
    """What a folder holds: instances by Series Instance UID, each with its path as ``filename``, and the rest."""

    series: dict[str, list[FileDataset]]
    skipped: tuple[SkippedFile, ...]
    illegible: tuple[IllegibleSeries, ...] = ()


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
    illegible: dict[str, list[str]] = {}
    for file in sorted(each for each in [path, *path.rglob("*")] if each.is_file()):
        try:
            header = _header(file)
            reading = _read(file)
        except RejectInstanceError as fault:
            skipped.append(SkippedFile(file, str(fault)))
            continue
        uid = header.series_instance_uid
        if isinstance(reading, FileDataset):
            series.setdefault(uid, []).append(reading)
        elif header.sop_class_uid in CT_STORAGE:
            illegible.setdefault(uid, []).append(reading)
        else:
            skipped.append(SkippedFile(file, reading))
    told = [
        IllegibleSeries(uid, len(reasons) + len(series.pop(uid, [])), reasons[0]) for uid, reasons in illegible.items()
    ]
    return FolderContent(series, tuple(skipped), tuple(told))


def _read(file: Path) -> FileDataset | str:
    """The instance, or why it cannot be read."""
    try:
        return read_instance(file)
    except QuarantineSeriesError as fault:
        return str(fault)


def _header(file: Path) -> InstanceHeader:
    if file.name == DICOMDIR:
        raise RejectInstanceError(0xC000, DIRECTORY)
    with file.open("rb") as stream:
        start = stream.read(START_LENGTH)
        if not may_be_dicom(start):
            raise RejectInstanceError(0xC000, "not a DICOM file")
        return read_file_header(start + stream.read())
