"""Clean patches and the same with simulated scanner noise, for a warm start of F, G and H."""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from monai.data import Dataset
from numpy.random import Generator as Random

from ..arguments import mistakes_in_one_line
from .images import Slice, read_slice
from .patches import turned
from .projection_noise import noise_fields, noise_level_hu

logger = logging.getLogger(__name__)

LEAST_NOISE_HU, MOST_NOISE_HU = 4.0, 85.0
CLEAN_HU = 9.0
"""A slice with more noise of its own gets at least as much as it holds, see :class:`SimulatedPairs`."""

BODY_HU, LUNG_HU = -300.0, -900.0
LEAST_INSIDE = 0.4
MOST_IN_COMMON = 0.4
"""Most noise of the clean slice itself over what is added, where two draws are compared: it is in both, and would
count as a bias."""
DRAWS = 10

FAINT_HU = (3.0, 60.0)
FAINT_RADIUS = (1.0, 12.0)


@dataclass(frozen=True)
class Source:
    """A clean slice, the noise that it holds itself (HU), and fields of noise of scans of it (standard deviation 1)."""

    patient: str
    image: np.ndarray
    noise_hu: float
    fields: np.ndarray


def sources(data: Sequence[Slice], folder: Path, fields: int, seed: int, workers: int = 1) -> list[Source]:
    """Read the slices and make their noise, or read it where ``folder`` has it from another run.

    Parameters
    ----------
    data : sequence of Slice
        The clean images.
    folder : Path
        Keeps the noise.
    fields : int
        Fields for each slice.
    seed : int
        Decides the noise, with the name of the slice.
    workers : int
        Processes that make it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(each, folder, fields, seed) for each in data]
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(_made, *zip(*jobs, strict=True)))
    return [_source(*job) for job in jobs]


def _source(item: Slice, folder: Path, fields: int, seed: int) -> Source:
    image = read_slice(item).astype(np.float32)
    with np.load(_made(item, folder, fields, seed)) as kept:
        return Source(item.patient, image, float(kept["noise_hu"]), kept["fields"])


def _made(item: Slice, folder: Path, fields: int, seed: int) -> Path:
    """The file with the noise of a slice."""
    image = read_slice(item).astype(np.float32)
    digest = hashlib.sha256(image.tobytes() + f"{item.spacing_mm} {fields} {seed}".encode()).hexdigest()
    path = folder / f"{digest[:24]}.npz"
    if not path.exists():
        logger.info("making the noise of %s", item.path)
        made = noise_fields(image, item.spacing_mm[0], fields, np.random.default_rng(list(bytes.fromhex(digest))))
        part = path.with_suffix(f".{item.index}.part.npz")
        np.savez(part, fields=made, noise_hu=noise_level_hu(image))
        part.replace(path)
    return path


@dataclass(frozen=True)
class Patch:
    """A clean patch, the noise that is added to it, what the target is multiplied by, the level of all noise, HU."""

    clean: np.ndarray
    noise: np.ndarray
    factor: float
    level: float


class SimulatedPairs(Dataset):
    """Batches of clean patches with simulated noise; an item is drawn from its index and the seed alone.

    Patients are drawn equally. The noise of a patch is mostly that of its own place, 4 to 85 HU. Where the clean slice
    itself holds noise r and a is added, the target is the added noise times 1 + r² / a², with a at least r: the mean of
    the answer is then all the noise, not the added part (Moran et al., "Noisier2Noise", CVPR 2020).

    Twins are the first patches of a batch with faint ellipses, in the same noise: what the ellipses change in the
    answer is an error, so that faint structure is not taken for noise. Draws are patches in two draws of noise of one
    level, both of their own place and hardly any of it the clean slice's: what both answers have wrong in common is a
    bias.

    Parameters
    ----------
    data : sequence of Slice
        The clean images; all are held in memory with their noise.
    length : int
        Number of batches.
    batch_size : int
        Patches in a batch.
    window : (float, float)
        Ends of the HU window, where noise is cut off as that of a real image is.
    noise_dir : str
        Keeps the fields of noise for the next run.
    fields_per_slice : int
        Fields of noise made for each slice.
    patch_size : int
        Side of a patch, pixels.
    twins : int
        How many twins there are.
    draws : int
        How many patches there are in two draws each.
    seed : int
        Decides every draw.
    workers : int
        Processes that make the noise.
    """

    @mistakes_in_one_line
    def __init__(
        self,
        data: Sequence[Slice],
        length: int,
        batch_size: int,
        window: tuple[float, float],
        noise_dir: str,
        fields_per_slice: int = 8,
        patch_size: int = 80,
        twins: int = 0,
        draws: int = 0,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        super().__init__(data)
        for each in data:
            if min(each.shape) < patch_size:
                raise ValueError(f"{each.path} is smaller than a patch of {patch_size} x {patch_size} pixels")
        self.sources = sources(data, Path(noise_dir), fields_per_slice, seed, workers)
        patients = sorted({each.patient for each in self.sources})
        self.of_patient = [[each for each in self.sources if each.patient == patient] for patient in patients]
        self.length, self.batch_size, self.seed, self.window = length, batch_size, seed, window
        self.side, self.twins, self.draws = patch_size, twins, draws
        if batch_size < 2 * (twins + draws):
            raise ValueError(f"a batch of {batch_size} has no room for {twins} twins and {draws} patches in two draws")
        if draws and fields_per_slice < 2:
            raise ValueError("two draws of the noise need --fields_per_slice 2 or more")
        self.first = 0  # a resumed run goes on here

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``image`` (noisy), ``label`` (clean) and ``target`` (the noise to take away), each (batch_size, 1, h, w)
        float32, HU, and ``level``, (batch_size,), HU. At the end are :attr:`twins` of the first, then
        :attr:`draws` patches, and the same in other noise.
        """
        random = np.random.default_rng([self.seed, self.first + index])
        drawn = [self.patch(random) for _ in range(self.batch_size - self.twins - 2 * self.draws)]
        drawn += [
            Patch(each.clean + faint_ellipses(self.side, random), each.noise, each.factor, each.level)
            for each in drawn[: self.twins]
        ]
        if self.draws:
            one, other = zip(*(self.two_draws(random) for _ in range(self.draws)), strict=True)
            drawn += [*one, *other]
        clean, noise = (np.stack([getattr(each, name) for each in drawn])[:, None] for name in ("clean", "noise"))
        factor, level = (np.array([getattr(each, name) for each in drawn]) for name in ("factor", "level"))
        image, label = (clean + noise).clip(*self.window), clean.clip(*self.window)
        target = (image - label) * factor[:, None, None, None]
        found = {"image": image, "label": label, "target": target, "level": level}
        return {name: value.astype(np.float32) for name, value in found.items()}

    def noisy(self, count: int) -> np.ndarray:
        """Noisy patches that the training does not draw, (count, 1, h, w) float32, HU."""
        random = np.random.default_rng([self.seed, 0, 1])
        drawn = [self.patch(random) for _ in range(count)]
        return np.stack([each.clean + each.noise for each in drawn])[:, None].clip(*self.window).astype(np.float32)

    def patch(self, random: Random) -> Patch:
        """A patch of a random slice of a random patient, with noise."""
        source, at = self._source(random)
        return _turned(source, at, [self._noise(source, at, random)], random)[0]

    def two_draws(self, random: Random) -> tuple[Patch, Patch]:
        """A patch in two draws of noise of its own place, next to which the clean slice holds little."""
        for _ in range(DRAWS):
            source, at = self._source(random)
            fields = random.choice(source.fields, 2, replace=False)
            one, other = _turned(source, at, [field[at].astype(np.float32) for field in fields], random)
            if max(one.factor, other.factor) < 1 + MOST_IN_COMMON**2:
                break
        return one, other

    def _source(self, random: Random) -> tuple[Source, tuple[slice, slice]]:
        of_patient = self.of_patient[random.integers(len(self.of_patient))]
        source = of_patient[random.integers(len(of_patient))]
        return source, self._place(source.image, random)

    def _place(self, image: np.ndarray, random: Random) -> tuple[slice, slice]:
        """Where enough of the patch is body, or now and then lung."""
        least = BODY_HU if random.random() < 0.85 else LUNG_HU
        for _ in range(DRAWS):
            at = random_place(image.shape, self.side, random)
            if (image[at] > least).mean() >= LEAST_INSIDE:
                break
        return at

    def _noise(self, source: Source, at: tuple[slice, slice], random: Random) -> np.ndarray:
        """Noise of this place, or, one time out of four, of another slice and place."""
        if random.random() < 0.75:
            return source.fields[random.integers(len(source.fields))][at].astype(np.float32)
        other = self.sources[random.integers(len(self.sources))]
        field = other.fields[random.integers(len(other.fields))]
        for _ in range(DRAWS):
            noise = field[random_place(field.shape, self.side, random)].astype(np.float32)
            if 0.4 < noise.std() < 3:
                break
        return np.rot90(noise, random.integers(4))


def _turned(source: Source, at: tuple[slice, slice], fields: Sequence[np.ndarray], random: Random) -> list[Patch]:
    """A patch in each of the fields, (h, w), all at one level of noise, turned alike."""
    own = source.noise_hu
    clean, own = recontrasted(source.image[at], 0.0 if np.isnan(own) else own, random)
    level = np.exp(random.uniform(*np.log([max(LEAST_NOISE_HU, own if own > CLEAN_HU else 0), MOST_NOISE_HU])))
    clean, *noises = turned(np.stack([clean, *(field * level for field in fields)], -1), random).transpose(2, 0, 1)
    added = [max(float(noise.std()), 1.0) for noise in noises]
    return [
        Patch(clean, noise, 1 + min(own / each, 1.0) ** 2, float(np.hypot(each, own)))
        for noise, each in zip(noises, added, strict=True)
    ]


def random_place(shape: Sequence[int], side: int, random: Random) -> tuple[slice, slice]:
    """A square of ``side`` pixels inside ``shape``."""
    top, left = (int(random.integers(length - side + 1)) for length in shape)
    return slice(top, top + side), slice(left, left + side)


def recontrasted(clean: np.ndarray, noise_hu: float, random: Random) -> tuple[np.ndarray, float]:
    """Half of the time another contrast and shift, as of a contrast agent; the image and the noise in it, HU."""
    if random.random() >= 0.5:
        return clean, noise_hu
    gain = random.uniform(0.7, 1.4)
    return (clean - 40) * gain + 40 + random.uniform(-60, 60), noise_hu * gain


def faint_ellipses(side: int, random: Random) -> np.ndarray:
    """One to five ellipses with a soft border, 3 to 60 HU; some as strong as clips and bubbles; (side, side)."""
    row, column = np.mgrid[:side, :side].astype(np.float32)
    total = np.zeros((side, side), np.float32)
    for _ in range(random.integers(1, 6)):
        y, x = random.uniform(0, side, 2)
        radius = np.exp(random.uniform(*np.log(FAINT_RADIUS)))
        angle, aspect = random.uniform(0, np.pi), random.uniform(0.5, 1)
        along = (row - y) * np.cos(angle) + (column - x) * np.sin(angle)
        across = ((column - x) * np.cos(angle) - (row - y) * np.sin(angle)) / aspect
        contrast = np.exp(random.uniform(*np.log(FAINT_HU))) * random.choice([-1, 1])
        if random.random() < 0.1:
            contrast *= 8
        border = 0.4 * random.uniform(0.5, 1.5)
        total += contrast / (1 + np.exp(np.clip((np.hypot(along, across) - radius) / border, -50, 50)))
    return total
