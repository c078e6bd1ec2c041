"""Pairs of a noisy and a normal image of the same slice, for validation and evaluation; training never sees one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.data import Dataset

from ..arguments import mistakes_in_one_line
from .images import Slice, find_slices, read_slice
from .splits import dose_pairs, read_split


@dataclass(frozen=True)
class Pair:
    """Two images of the same slice.

    Attributes
    ----------
    noisy, normal : Slice
        The images, of the same size.
    name : str
        The noisy file below its folder, with ``#k`` for slice k of a file of several.
    """

    noisy: Slice
    normal: Slice
    name: str

    def __post_init__(self) -> None:
        if self.noisy.shape != self.normal.shape:
            raise ValueError(
                f"{self.noisy.path} and {self.normal.path} are a pair and differ in size: "
                f"{self.noisy.shape} and {self.normal.shape} rows and columns"
            )


class PairedSlices(Dataset):
    """Pairs of slices, read when asked for.

    An item holds ``image`` (noisy) and ``label`` (normal), both (1, H, W) float32 in HU or grey values; the pair's
    ``name``; ``patient``; and ``spacing_mm``, (2,) float32, between rows and between columns, NaN where unknown.

    Parameters
    ----------
    data : sequence of Pair
        What :func:`validation_pairs` returns; may be empty.
    limit : int, optional
        Take at most so many pairs, spread evenly.
    """

    def __init__(self, data: Sequence[Pair], limit: int | None = None) -> None:
        if limit is not None and limit < len(data):
            data = [data[number] for number in np.linspace(0, len(data) - 1, limit).round().astype(int)]
        super().__init__(data)

    def _transform(self, index: int) -> dict[str, object]:
        """The pair as arrays; MONAI's ``Dataset`` calls it for each index it is asked for."""
        pair = self.data[index]
        return {
            "image": read_slice(pair.noisy).astype(np.float32)[None],
            "label": read_slice(pair.normal).astype(np.float32)[None],
            "name": pair.name,
            "patient": pair.noisy.patient,
            "spacing_mm": np.array(pair.noisy.spacing_mm, np.float32),
        }


@mistakes_in_one_line
def validation_pairs(
    validation_clean_dir: str = "", validation_noisy_dir: str = "", dataset_dir: str = "", split: str = ""
) -> list[Pair]:
    """The pairs of two folders, or of the validation patients of a TCIA tree, or none.

    In two folders the same path below both (and the same slice, in a volume) is a pair, and every image must have its
    partner. In a tree slices are matched by their place, see :func:`.splits.dose_pairs`.

    Parameters
    ----------
    validation_clean_dir, validation_noisy_dir : str
        Folders of normal and of noisy images.
    dataset_dir, split : str
        Without folders: tree and patient lists, see :mod:`.splits`. If nothing is given there are no pairs.

    Raises
    ------
    ValueError
        If only one folder is given, an image has no partner, or partners differ in size.
    """
    if validation_clean_dir or validation_noisy_dir:
        return _pairs_of_folders(validation_clean_dir, validation_noisy_dir)
    if dataset_dir:
        pairs = dose_pairs(dataset_dir, read_split(split).validation)
        return [Pair(low, full, low.path.relative_to(dataset_dir).as_posix()) for low, full in pairs]
    return []


@mistakes_in_one_line
def evaluation_pairs(clean_dir: str, noisy_dir: str, dataset_dir: str, split: str) -> list[Pair]:
    """The pairs of :func:`validation_pairs`, under the names that the arguments of an evaluation have.

    Raises
    ------
    ValueError
        If neither both folders nor a tree are given, and what :func:`validation_pairs` raises.
    """
    if not dataset_dir and not (clean_dir and noisy_dir):
        missing = "clean_dir" if noisy_dir else "noisy_dir" if clean_dir else "clean_dir and --noisy_dir"
        raise ValueError(f"--{missing} is missing; give both folders of the pairs, or --dataset_dir")
    return validation_pairs(clean_dir, noisy_dir, dataset_dir, split)


def _pairs_of_folders(validation_clean_dir: str, validation_noisy_dir: str) -> list[Pair]:
    if not validation_clean_dir or not validation_noisy_dir:
        missing = "noisy" if validation_clean_dir else "clean"
        raise ValueError(f"--validation_{missing}_dir is missing; pairs need both folders")
    noisy, normal = _by_name(validation_noisy_dir), _by_name(validation_clean_dir)
    for folder, names, other in (
        (validation_noisy_dir, noisy.keys() - normal.keys(), validation_clean_dir),
        (validation_clean_dir, normal.keys() - noisy.keys(), validation_noisy_dir),
    ):
        if names:
            raise ValueError(f"{min(names)} is in {folder} and not in {other} ({len(names)} such images)")
    return [Pair(noisy[name], normal[name], name) for name in sorted(noisy)]


def _by_name(folder: str) -> dict[str, Slice]:
    slices = find_slices(folder)
    of_several = {each.path for each in slices if each.index}
    return {
        each.path.relative_to(folder).as_posix() + (f"#{each.index}" if each.path in of_several else ""): each
        for each in slices
    }
