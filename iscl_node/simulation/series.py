"""Low-dose noise for many slices, on several processes."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from iscl_node.simulation.low_dose import FloatImage, Scanner, check_dose, low_dose_noise


@dataclass(frozen=True)
class Slice:
    """One slice to simulate.

    Parameters
    ----------
    key : str
        Names the slice, for example its SOP Instance UID; decides, with the seed, its noise.
    hu : float32 array, shape (H, W)
        The normal-dose slice in HU.
    pixel_spacing_mm : float
        Distance of pixel centres in mm.
    """

    key: str
    hu: FloatImage
    pixel_spacing_mm: float


def slice_generator(seed: int, key: str) -> np.random.Generator:
    """Random generator of one slice: depends on nothing but the seed and the slice's key."""
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), "<u4")
    return np.random.default_rng(np.random.SeedSequence([seed, *words.tolist()]))


def low_dose_slice(source: Slice, dose: float, seed: int, scanner: Scanner) -> FloatImage:
    """The slice with the noise of the lower dose, in HU; float32, shape (H, W)."""
    noise = low_dose_noise(source.hu, source.pixel_spacing_mm, dose, slice_generator(seed, source.key), scanner)
    return source.hu + noise


def low_dose_series(
    slices: Iterable[Slice], dose: float, seed: int, scanner: Scanner | None = None, workers: int = 1
) -> Iterator[FloatImage]:
    """Simulate slices in their order.

    The result depends on neither the order nor the number of workers; bit by bit it is the same with the same NumPy,
    SciPy, scikit-image and FINUFFT on the same kind of processor, because a count drawn near a rounding edge shifts
    those after it. At most two slices per worker are in memory.

    Parameters
    ----------
    slices : iterable of Slice
        Read only as fast as results are taken.
    dose : float
        Fraction of the source's dose, above 0 and at most 1.
    seed : int
        Seed of the noise, at least 0.
    scanner : Scanner, optional
        The scanner; ``Scanner()`` by default.
    workers : int
        Processes; 1 works in this process. With more, the calling script needs the ``if __name__ == "__main__"``
        guard, because processes are spawned (a fork of a process that runs threads may deadlock).

    Returns
    -------
    iterator of float32 array, shape (H, W)
        The low-dose slices in HU.

    Raises
    ------
    ValueError
        If dose, seed or workers cannot be used; at once, not at the first result.
    """
    check_dose(dose)
    if seed < 0 or workers < 1:
        raise ValueError(f"seed must be at least 0 and workers at least 1; got {seed} and {workers}")
    used = scanner or Scanner()
    if workers == 1:
        return (low_dose_slice(source, dose, seed, used) for source in slices)
    return _in_processes(slices, dose, seed, used, workers)


def _in_processes(
    slices: Iterable[Slice], dose: float, seed: int, scanner: Scanner, workers: int
) -> Iterator[FloatImage]:
    pending: deque[Future[FloatImage]] = deque()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for source in slices:
            pending.append(pool.submit(low_dose_slice, source, dose, seed, scanner))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
