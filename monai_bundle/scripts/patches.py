"""Random patches of an image, turned and mirrored."""

import numpy as np
from numpy.random import Generator as Random

PATCH_SIZE = 64


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
