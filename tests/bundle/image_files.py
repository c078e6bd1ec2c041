"""Small images of every kind that the bundle reads, for its tests."""

from pathlib import Path

import nibabel
import numpy as np
from factories import ct_dataset, part10, soft_tissue
from PIL import Image

SIDE = 80


def write_ct(path: Path, seed: int = 0, side: int = SIDE, **overrides: object) -> Path:
    """A CT slice of noisy water; an override of None removes the attribute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(part10(ct_dataset(soft_tissue(seed=seed, side=side), **overrides)))
    return path


def write_volume(path: Path, volume: np.ndarray, spacing_mm: tuple[float, float, float] = (0.7, 0.8, 5.0)) -> Path:
    """A NIfTI volume."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([*spacing_mm, 1.0])), path)
    return path


def write_grey(path: Path, *pages: np.ndarray) -> Path:
    """An image file of one or several pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, **({"save_all": True, "append_images": others} if others else {}))
    return path


def grey(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Random 8-bit grey values, (side, side)."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
