"""Random patches of an image, turned and mirrored."""

import numpy as np
from numpy.random import Generator as Random

PATCH_SIZE = 64

DRAWS = 6
"""How often a patch with too little inside the window is drawn."""


def patches(
    image: np.ndarray, count: int, random: Random, window: tuple[float, float] | None = None, min_inside: float = 0.0
) -> np.ndarray:
    """Draw one patch from each of ``count`` cells of the image, each turned at random.

    Parameters
    ----------
    image : ndarray
        (H, W), both at least 64.
    count : int
        Number of patches.
    random : Generator
        Source of chance.
    window : (float, float), optional
        The HU window.
    min_inside : float
        A patch of which less than this fraction lies inside the window (air, mostly) is drawn anew from its cell,
        some times; a cell that has nothing better still gives one.

    Returns
    -------
    ndarray
        (count, 1, 64, 64).
    """
    rows = int(np.sqrt(count))
    while count % rows:
        rows -= 1
    cells = [(row, rows, column, count // rows) for row in range(rows) for column in range(count // rows)]
    drawn = []
    for cell in cells:
        for _ in range(DRAWS if window else 1):
            patch = _patch(image, *cell, random)
            if window is None or ((patch > window[0]) & (patch < window[1])).mean() >= min_inside:
                break
        drawn.append(turned(patch, random)[None])
    return np.stack(drawn)


def _patch(image: np.ndarray, row: int, rows: int, column: int, columns: int, random: Random) -> np.ndarray:
    top = _corner(image.shape[0], row, rows, random)
    left = _corner(image.shape[1], column, columns, random)
    return image[top : top + PATCH_SIZE, left : left + PATCH_SIZE]


def _corner(length: int, cell: int, cells: int, random: Random) -> int:
    """A start position such that the patch's centre falls anywhere in its cell, and the patch in the image."""
    reach = length - PATCH_SIZE
    return min(int(random.uniform(cell, cell + 1) / cells * (reach + 1)), reach)


def turned(patch: np.ndarray, random: Random) -> np.ndarray:
    """One of the eight rotations and reflections of a square, (H, W)."""
    patch = np.rot90(patch, random.integers(4))
    return patch[::-1] if random.integers(2) else patch
