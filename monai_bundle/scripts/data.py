"""Unpaired training patches from plain folders of DICOM series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from monai.data import Dataset
from numpy.random import Generator as Random
from pydicom.errors import InvalidDicomError
from torch.utils.data import DataLoader

PATCH_SIZE = 64


def ct_files(folder: str | Path) -> list[Path]:
    """Every file below ``folder`` that holds a CT image, sorted by path.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder")
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and _is_ct_image(path)]
    if not files:
        raise ValueError(f"{folder} holds no CT image (DICOM, Modality CT, not a localizer)")
    return files


def volume_files(folder: str | Path) -> list[dict[str, str]]:
    """The NIfTI volumes in ``folder``, sorted, as items ``{"image": path}``.

    Raises
    ------
    ValueError
        If there is none.
    """
    files = sorted(str(path) for path in Path(folder).glob("*.nii*"))
    if not files:
        raise ValueError(f"{folder} holds no NIfTI volume (*.nii, *.nii.gz)")
    return [{"image": path} for path in files]


def _is_ct_image(path: Path) -> bool:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "ImageType", "Rows"])
    except InvalidDicomError:
        return False
    return header.get("Modality") == "CT" and "Rows" in header and "LOCALIZER" not in header.get("ImageType", [])


def read_hu(path: Path) -> np.ndarray:
    """One CT image in HU, (H, W) float32: stored values times slope plus intercept (PS3.3 C.11.1.1.2).

    Raises
    ------
    ValueError
        If the file holds several frames or no rescale (Enhanced CT).
    """
    dataset = pydicom.dcmread(path)
    stored = dataset.pixel_array.astype(np.float32)
    if "RescaleSlope" not in dataset or "RescaleIntercept" not in dataset or stored.ndim != 2:
        raise ValueError(f"{path} is no single CT slice with Rescale Slope and Intercept")
    return stored * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)


def read_for_patches(path: Path) -> np.ndarray:
    """One CT image in HU, (H, W) float32, of at least the size of a patch."""
    image = read_hu(path)
    if min(image.shape) < PATCH_SIZE:
        raise ValueError(f"{path} is {image.shape[1]} x {image.shape[0]} pixels; a patch needs {PATCH_SIZE} of each")
    return image


class UnpairedPatches(Dataset):
    """Batches of patches: one noisy image and one clean image, chosen independently.

    All patches of a batch come from one image of each domain, one from each cell of a grid laid over
    it. The statistics of Batch-Instance Normalization in training are then those of an image, which
    is what the networks meet when they denoise (one whole image at a time).

    An item is drawn from its index and the seed alone, so a run can be repeated, and a resumed run
    does not see the same patches again: its indices go on.

    Parameters
    ----------
    data : sequence of Path
        The noisy images.
    clean : sequence of Path
        The clean images.
    length : int
        Number of batches.
    batch_size : int
        Patches per domain in a batch.
    seed : int
        Decides every draw.
    """

    def __init__(
        self, data: Sequence[Path], clean: Sequence[Path], length: int, batch_size: int, seed: int = 0
    ) -> None:
        super().__init__(data)
        if batch_size < 2:
            raise ValueError(f"batch_size is {batch_size}; Batch-Instance Normalization needs at least 2")
        self.images = {
            "noisy": [read_for_patches(path) for path in data],
            "clean": [read_for_patches(path) for path in clean],
        }
        self.length = length
        self.first = 0  # a resumed run goes on here
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``noisy`` and ``clean``, each (batch_size, 1, 64, 64) float32 HU."""
        random = np.random.default_rng([self.seed, self.first + index])
        return {
            domain: patches(images[random.integers(len(images))], self.batch_size, random)
            for domain, images in self.images.items()
        }


def patches(image: np.ndarray, count: int, random: Random, size: int = PATCH_SIZE) -> np.ndarray:
    """Draw one patch from each of ``count`` cells of the image, each turned at random.

    Parameters
    ----------
    image : ndarray
        (H, W), both at least ``size``.
    count : int
        Number of patches.
    random : Generator
        Source of chance.
    size : int
        Edge of a patch.

    Returns
    -------
    ndarray
        (count, 1, size, size).
    """
    rows = int(np.sqrt(count))
    while count % rows:
        rows -= 1
    cells = [(row, column) for row in range(rows) for column in range(count // rows)]
    corners = [
        (_corner(image.shape[0], row, rows, size, random), _corner(image.shape[1], column, count // rows, size, random))
        for row, column in cells
    ]
    return np.stack([turned(image[top : top + size, left : left + size], random)[None] for top, left in corners])


def _corner(length: int, cell: int, cells: int, size: int, random: Random) -> int:
    """A start position such that the patch's centre falls anywhere in its cell, and the patch in the image."""
    reach = length - size
    return min(int(random.uniform(cell, cell + 1) / cells * (reach + 1)), reach)


def turned(patch: np.ndarray, random: Random) -> np.ndarray:
    """One of the eight rotations and reflections of a square, (H, W)."""
    patch = np.rot90(patch, random.integers(4))
    return patch[::-1] if random.integers(2) else patch


def iteration_loader(dataset: Dataset, num_workers: int = 0) -> DataLoader:
    """A loader whose items are whole batches already, in the order of their index."""
    return DataLoader(dataset, batch_size=None, num_workers=num_workers)
