"""What of a cell of 16 bits is the stored value: Bits Stored of them; the others may hold anything (PS3.5 8.1.1).

Overlays lie in them (PS3.3 C.9.2, retired), stray bits, or a sign that is not extended as it should be. But if values
run on beyond Bits Stored, such as those of metal, cutting them off would make tissue of it: that cannot be known, and
the neighbours decide: where the value is continuous only with the unused bits, they belong to it.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy import ndimage

from iscl_node.errors import QuarantineSeriesError

Stored = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_CELL_BITS: Final = 16
_USUAL_STEPS: Final = 3.0
_LEAST_STEP: Final = 30.0
"""Neighbours on both sides of a change in the unused bits may differ by three usual steps between neighbours and this
much more, in stored values: noise, and less than the edge of metal."""
_LEAST_SHARE: Final = 0.02
"""Air is more of an image than metal is."""


def in_bits(cells: Stored, bits: int, is_signed: bool, padding: Mask, overlays: int = 0) -> Stored:
    """Return the stored values in the lowest ``bits`` of the cells, with the sign of their highest bit.

    Parameters
    ----------
    cells : int32 array, shape (H, W)
        The cells as signed or unsigned numbers of 16 bits.
    bits : int
        Bits Stored.
    is_signed : bool
        By Pixel Representation.
    padding : bool array, shape (H, W)
        Declared padding, whose cells stay as they are.
    overlays : int
        The bits in which overlays lie, as a mask.

    Raises
    ------
    QuarantineSeriesError
        When the values run on beyond Bits Stored.
    """
    values = _lowest(cells, bits, is_signed)
    stray = _lowest(cells & ~overlays, _CELL_BITS, is_signed) - values
    stray[padding] = 0
    if stray.any() and _runs_on(cells, values, stray, padding, is_signed):
        smallest, largest = int(cells.min()), int(cells.max())
        raise QuarantineSeriesError(f"pixel values from {smallest} to {largest} do not fit the {bits} Bits Stored")
    return np.where(padding, cells, values)


def overlay_bits(dataset: Dataset) -> int:
    """Return the bits of the cells in which overlays lie, as a mask: those without Overlay Data of their own."""
    mask = 0
    for group in range(0x6000, 0x6020, 2):
        position = dataset.get((group, 0x0102))
        if position is not None and (group, 0x3000) not in dataset and isinstance(position.value, int):
            mask |= 1 << position.value if position.value < _CELL_BITS else 0
    return mask


def solid(mask: Mask) -> Mask:
    """Return the part of a mask that is coherent: areas in which a square of 3 pixels finds room, up to their edges."""
    core = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
    return np.asarray(ndimage.binary_propagation(core, np.ones((3, 3)), mask), dtype=np.bool_)


def _lowest(cells: Stored, bits: int, is_signed: bool) -> Stored:
    values = cells & ((1 << bits) - 1)
    return values - ((values >> (bits - 1)) << bits) if is_signed else values


def _runs_on(cells: Stored, values: Stored, stray: Stored, padding: Mask, is_signed: bool) -> bool:
    """Whether the unused bits continue the value, judged where they change between neighbours."""
    with_bits, without = _steps(cells, values, stray, padding)
    if not with_bits.size:
        return True
    usual = float(np.median(np.concatenate(list(_differences(values)))))
    if np.median(without) <= _USUAL_STEPS * usual + _LEAST_STEP:
        return False
    is_not_extended = is_signed and float(np.mean(stray != 0)) >= _LEAST_SHARE and int(cells.min()) >= 0
    return not (is_not_extended and np.median(without) < np.median(with_bits))


def _steps(cells: Stored, values: Stored, stray: Stored, padding: Mask) -> tuple[Stored, Stored]:
    """Differences between neighbours on both sides of a change in the unused bits: with these bits, and without."""
    changes = [each != 0 for each in _differences(stray)]
    clear = [each == 0 for each in _differences(padding.astype(np.int32))]
    found = [
        np.concatenate([step[where & free] for step, where, free in zip(_differences(of), changes, clear, strict=True)])
        for of in (cells, values)
    ]
    return found[0], found[1]


def _differences(image: Stored) -> Iterator[Stored]:
    """Between neighbours in columns and in rows, without sign, flat."""
    yield np.abs(np.diff(image, axis=0)).ravel()
    yield np.abs(np.diff(image, axis=1)).ravel()
