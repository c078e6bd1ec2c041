"""Where in a slice the judge saw too much: boxes for the person who decides."""

from typing import Final, NamedTuple

import numpy as np
from scipy import ndimage

from iscl_node.dicom.judging.slices import SHIFT_PIXELS
from iscl_node.dicom.reading.volume import Slice

_MOST: Final = 12
_HALF: Final = 0.5
_MARGIN_PIXELS: Final = 6


class Box(NamedTuple):
    """Pixels, the first of rows and columns and the one behind the last."""

    top: int
    left: int
    bottom: int
    right: int


def changed_most(source_hu: Slice, derived_hu: Slice) -> list[Box]:
    """Find where a slice changed most, the largest first: where the local shift is above half of its highest value.

    Parameters
    ----------
    source_hu, derived_hu : float32 array, shape (H, W)
        Hounsfield units; nothing is found where shapes differ, values are not finite or nothing changed.
    """
    if source_hu.shape != derived_hu.shape or not np.isfinite(derived_hu).all():
        return []
    shift = np.abs(ndimage.gaussian_filter(derived_hu - source_hu, SHIFT_PIXELS))
    highest = float(shift.max(initial=0.0))
    if highest <= 0:
        return []
    places = ndimage.find_objects(ndimage.label(shift >= _HALF * highest)[0])
    boxes = [_box(rows, columns, source_hu.shape) for rows, columns in places]
    return sorted(boxes, key=lambda box: -(box.bottom - box.top) * (box.right - box.left))[:_MOST]


def _box(rows: slice, columns: slice, shape: tuple[int, ...]) -> Box:
    return Box(
        max(int(rows.start) - _MARGIN_PIXELS, 0),
        max(int(columns.start) - _MARGIN_PIXELS, 0),
        min(int(rows.stop) + _MARGIN_PIXELS, shape[0]),
        min(int(columns.stop) + _MARGIN_PIXELS, shape[1]),
    )
