"""Training data: noisy and clean images of different patients, and batches of patches of them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from monai.data import Dataset
from nibabel.filebasedimages import ImageFileError
from torch.utils.data import DataLoader

from ..arguments import mistakes_in_one_line
from .images import Slice, find_slices, read_slice
from .patches import PATCH_SIZE, patches
from .splits import FULL_DOSE, LOW_DOSE, dose_slices, patient_folders, read_split

logger = logging.getLogger(__name__)


class UnpairedSlices(NamedTuple):
    """The two domains: x of the paper and y."""

    noisy: Sequence[Slice]
    clean: Sequence[Slice]


@mistakes_in_one_line
def training_slices(clean_dir: str = "", noisy_dir: str = "", dataset_dir: str = "", split: str = "") -> UnpairedSlices:
    """The images to train on, from two folders or from a TCIA tree; no patient is in both domains.

    Parameters
    ----------
    clean_dir, noisy_dir : str
        Folders of images, see :func:`.images.find_slices`.
    dataset_dir : str
        Instead of the two: the tree of LDCT-and-Projection-data, see :func:`.splits.dose_slices`.
    split : str
        Patient lists for the tree, see :func:`.splits.read_split`.

    Raises
    ------
    ValueError
        If neither or both are given, there are no images, or a patient is in both domains (the message names one).
    """
    if dataset_dir and (clean_dir or noisy_dir):
        raise ValueError("--dataset_dir is given with --clean_dir or --noisy_dir; use the tree or the two folders")
    slices = _slices_of_tree(dataset_dir, split) if dataset_dir else _slices_of_folders(clean_dir, noisy_dir)
    _check_disjoint(slices)
    return slices


def _slices_of_tree(dataset_dir: str, split: str) -> UnpairedSlices:
    lists = read_split(split)
    patient_folders(dataset_dir, lists.noisy + lists.clean)  # so that all who are missing are listed at once
    found = (
        dose_slices(dataset_dir, lists.noisy, LOW_DOSE),
        dose_slices(dataset_dir, lists.clean, FULL_DOSE),
    )
    return UnpairedSlices(*([each for slices in domain.values() for each in slices] for domain in found))


def _slices_of_folders(clean_dir: str, noisy_dir: str) -> UnpairedSlices:
    for name, folder in (("clean_dir", clean_dir), ("noisy_dir", noisy_dir)):
        if not folder:
            raise ValueError(
                f"--{name} is missing; it names a folder of images (or give --dataset_dir, a TCIA tree with both)"
            )
        if not Path(folder).is_dir():
            raise ValueError(f"--{name}: {folder} is not a folder")
    return UnpairedSlices(noisy=find_slices(noisy_dir), clean=find_slices(clean_dir))


def _check_disjoint(slices: UnpairedSlices) -> None:
    noisy, clean = ({each.patient: each.path for each in domain} for domain in slices)
    both = sorted((noisy.keys() & clean.keys()) - {""})
    if both:
        raise ValueError(
            f"patient {both[0]} is in both domains ({len(both)} such): {noisy[both[0]]} is noisy, {clean[both[0]]} "
            "is clean; unpaired training needs different patients"
        )
    unknown = sum(not each.patient for domain in slices for each in domain)
    if unknown:
        logger.warning(
            "%d images have no Patient ID and no folder of their own: that no patient is both noisy and clean "
            "cannot be checked",
            unknown,
        )


class UnpairedPatches(Dataset):
    """Batches of patches: noisy images and clean images, chosen independently.

    All patches of a batch come from few images of each domain (one by default), and those of an image
    from the cells of a grid laid over it. The statistics of Batch-Instance Normalization in training are
    then those of an image, which is what the networks meet when they denoise (one whole image at a time).

    An item is drawn from its index and the seed alone, so a run can be repeated, and a resumed run
    does not see the same patches again: its indices go on.

    Parameters
    ----------
    data : (sequence of Slice, sequence of Slice)
        The noisy and the clean images; all are read here and held in memory.
    length : int
        Number of batches.
    batch_size : int
        Patches per domain in a batch.
    images_per_batch : int
        Images per domain in a batch.
    seed : int
        Decides every draw.
    window : (float, float), optional
        The HU window.
    min_inside : float
        Least fraction of a patch inside the window, see :func:`.patches.patches`; 0, as in the paper, takes any patch.

    Raises
    ------
    ValueError
        If the batch cannot be made, or an image is smaller than a patch; before anything is read.
    """

    @mistakes_in_one_line
    def __init__(
        self,
        data: tuple[Sequence[Slice], Sequence[Slice]],
        length: int,
        batch_size: int,
        images_per_batch: int = 1,
        seed: int = 0,
        window: tuple[float, float] | None = None,
        min_inside: float = 0.0,
    ) -> None:
        super().__init__(data)
        slices = UnpairedSlices(*data)
        _check_batch(slices, batch_size, images_per_batch)
        logger.info("reading %d noisy and %d clean images", len(slices.noisy), len(slices.clean))
        self.images = {domain: [read_slice(each) for each in images] for domain, images in slices._asdict().items()}
        self.length = length
        self.first = 0  # a resumed run goes on here
        self.batch_size = batch_size
        self.images_per_batch = images_per_batch
        self.seed = seed
        self.window, self.min_inside = (window, min_inside) if min_inside > 0 else (None, 0.0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``noisy`` and ``clean``, each (batch_size, 1, 64, 64) float32, HU or grey values."""
        random = np.random.default_rng([self.seed, self.first + index])
        return {domain: self._draw(images, random) for domain, images in self.images.items()}

    def _draw(self, images: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
        chosen = random.choice(len(images), self.images_per_batch, replace=False)
        count = self.batch_size // self.images_per_batch
        drawn = [patches(images[number], count, random, self.window, self.min_inside) for number in chosen]
        return np.concatenate(drawn).astype(np.float32)


def _check_batch(slices: UnpairedSlices, batch_size: int, images_per_batch: int) -> None:
    if batch_size < 2:
        raise ValueError(f"--batch_size is {batch_size}; Batch-Instance Normalization needs at least 2")
    if images_per_batch < 1 or batch_size % images_per_batch:
        raise ValueError(f"--batch_size is {batch_size}, no multiple of --images_per_batch, {images_per_batch}")
    for domain, images in slices._asdict().items():
        if len(images) < images_per_batch:
            raise ValueError(f"--images_per_batch is {images_per_batch}, but there are {len(images)} {domain} images")
        for each in images:
            if min(each.shape) < PATCH_SIZE:
                rows, columns = each.shape
                raise ValueError(f"{each.path} is {columns} x {rows} pixels; a patch needs {PATCH_SIZE} of each")


def iteration_loader(dataset: Dataset, num_workers: int = 0) -> DataLoader:
    """A loader whose items are whole batches already, in the order of their index."""
    return DataLoader(dataset, batch_size=None, num_workers=num_workers)


@mistakes_in_one_line
def volume_files(folder: str | Path, output_dir: str | Path = "") -> list[dict[str, str]]:
    """The NIfTI volumes below ``folder`` but not in ``output_dir``, sorted, as items ``{"image": path}``.

    Raises
    ------
    ValueError
        If there is none, or one has not three axes.
    """
    results = Path(output_dir).resolve()
    is_inside = bool(output_dir) and Path(folder).resolve() in results.parents
    found = sorted(path for path in Path(folder).rglob("*.nii*") if path.is_file())
    files = [path for path in found if not (is_inside and results in path.resolve().parents)]
    if not files:
        raise ValueError(f"{folder} holds no NIfTI volume (*.nii, *.nii.gz)")
    for path in files:
        _check_axes(path)
    return [{"image": str(path)} for path in files]


def _check_axes(path: Path) -> None:
    try:
        shape = nibabel.load(path).shape
    except (OSError, ImageFileError, EOFError) as error:
        raise ValueError(f"{path} is no NIfTI volume that can be read") from error
    if len(shape) != 3:
        raise ValueError(
            f"{path} has the shape {shape}: a volume has three axes; split it, or give a slice a third one"
        )
