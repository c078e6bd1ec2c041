"""Patient lists, and the tree of the TCIA collection LDCT-and-Projection-data (doi 10.7937/9NPB-2637) they refer to."""

import json
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from .images import Slice, slices_of

FULL_DOSE = "Full Dose Images"
LOW_DOSE = "Low Dose Images"
"""Series Descriptions of the collection; the case of the letters differs between its releases."""

LISTS = ("clean", "noisy", "validation")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Who is used for what; nobody for two things.

    Attributes
    ----------
    path : str
        The file, for messages.
    clean, noisy, validation : tuple of str
        Patient IDs. Of clean patients training sees the full dose, of noisy patients the low dose, of
        validation patients nothing.
    """

    path: str
    clean: tuple[str, ...]
    noisy: tuple[str, ...]
    validation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("clean", "noisy"):
            if not getattr(self, name):
                raise ValueError(f"{self.path}: the list {name!r} is missing or empty")
        for one, other in combinations(LISTS, 2):
            both = sorted(set(getattr(self, one)) & set(getattr(self, other)))
            if both:
                raise ValueError(f"{self.path}: {', '.join(both)} in both {one!r} and {other!r}")


def read_split(path: str) -> Split:
    """Read a file such as those in ``configs/splits``: JSON with the lists ``clean``, ``noisy`` and ``validation``.

    Raises
    ------
    ValueError
        If there is no such file, a list is missing, or a patient is in two of them.
    """
    if not Path(path).is_file():
        raise ValueError(f"--split: {path} is no file; it lists the patients of --dataset_dir, see configs/splits")
    try:
        lists = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(lists, dict) or not all(isinstance(lists.get(name, []), list) for name in LISTS):
        raise ValueError(f"{path} must hold the lists {', '.join(LISTS)}")
    return Split(path, *(tuple(map(str, lists.get(name, []))) for name in LISTS))


def dose_slices(dataset_dir: str, patients: Collection[str], series: str) -> dict[str, list[Slice]]:
    """The slices of one series of each patient, below ``collection/patient/study/series`` as the NBIA Data Retriever
    downloads it.

    Parameters
    ----------
    dataset_dir : str
        The collection's folder, or one that holds it (one or two levels up; several downloads side by side are one).
    patients : collection of str
        Patient IDs, the names of their folders.
    series : str
        Series Description, or a part of it, in any case of letters; where the header has none, the folder's name.

    Raises
    ------
    ValueError
        If patients have no folder, or not this series (the message lists them).
    """
    folders = patient_folders(dataset_dir, patients)
    found = {
        patient: [each for folder in folders[patient] for each in _slices_of_series(folder, series)]
        for patient in patients
    }
    absent = sorted(patient for patient in patients if not found[patient])
    if absent:
        raise ValueError(
            f"--dataset_dir: no series {series!r} of {', '.join(absent)} in {dataset_dir} (not downloaded, or a "
            "patient of a GE scanner, of whom the collection has no low dose images)"
        )
    return found


def patient_folders(dataset_dir: str, patients: Collection[str]) -> dict[str, list[Path]]:
    """The folders of each patient, one in each download.

    Raises
    ------
    ValueError
        If patients have none (the message lists them).
    """
    if not Path(dataset_dir).is_dir():
        raise ValueError(f"--dataset_dir: {dataset_dir} is not a folder")
    folders: dict[str, list[Path]] = {}
    for pattern in ("*", "*/*", "*/*/*"):
        for folder in sorted(Path(dataset_dir).glob(pattern)):
            if folder.name in patients and folder.is_dir():
                folders.setdefault(folder.name, []).append(folder)
    absent = sorted(set(patients) - folders.keys())
    if absent:
        raise ValueError(f"--dataset_dir: {dataset_dir} holds no folder of {', '.join(absent)}")
    return folders


def _slices_of_series(patient_folder: Path, series: str) -> Iterator[Slice]:
    for folder, _, names in sorted(os.walk(patient_folder)):
        files = [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
        # One header tells the series: a folder of projections holds tens of thousands of files.
        if files and series.lower() in _description(files).lower():
            for path in files:
                yield from slices_of(path, patient_folder.parent)


def _description(files: list[Path]) -> str:
    """Series Description of the first DICOM file, or the folder's name."""
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesDescription"])
        except InvalidDicomError:
            continue
        return str(header.get("SeriesDescription") or path.parent.name)
    return ""


def dose_pairs(dataset_dir: str, patients: Collection[str]) -> list[tuple[Slice, Slice]]:
    """Low dose and full dose of the same slices, matched within a patient by the slice's place.

    A place of one series only is left out, which the log tells.

    Raises
    ------
    ValueError
        If a patient has two slices at one place, or none in common.
    """
    low, full = (dose_slices(dataset_dir, patients, series) for series in (LOW_DOSE, FULL_DOSE))
    pairs = []
    for patient in patients:
        low_at, full_at = _by_place(low[patient]), _by_place(full[patient])
        common = sorted(low_at.keys() & full_at.keys())
        if not common:
            raise ValueError(f"{patient}: no slice of {LOW_DOSE!r} is at the place of one of {FULL_DOSE!r}")
        alone = len(low_at.keys() ^ full_at.keys())
        if alone:
            logger.warning("%s: %d slices are in one of the two series only and are left out", patient, alone)
        pairs += [(low_at[place], full_at[place]) for place in common]
    return pairs


def _by_place(slices: list[Slice]) -> dict[tuple[float, ...], Slice]:
    """Slices by Image Position, or by Instance Number where a slice has no position."""
    by_place: dict[tuple[float, ...], Slice] = {}
    for each in slices:
        other = by_place.setdefault(each.place, each)
        if other is not each:
            raise ValueError(f"{other.path} and {each.path} are at the same place of the same series")
    return by_place
