"""How large the body in a slice is: less noise is accepted in a head than in an abdomen."""

from typing import Final

import numpy as np
from scipy import ndimage

from iscl_node.dicom.reading.volume import Mask, Slice

BODY_HU: Final = -300.0
"""What is above is body, or table."""
OPENING_PIXELS: Final = 2
"""Thinner things, as a sheet or the shell of the table, are no part of the body."""
MOST_FILLED: Final = 0.9
"""A body that fills more of the image than this goes on beyond it: its size is not in the picture."""


def effective_diameter_mm(hu: Slice, pixel_area_mm2: float) -> float | None:
    """The diameter of the circle that has the area of the body's outline (AAPM Report 204).

    Parameters
    ----------
    hu : float32 array, shape (H, W)
        Hounsfield units.
    pixel_area_mm2 : float
        Area of a pixel, mm^2.

    Returns
    -------
    float or None
        mm; None where there is no body, or the image is a cut-out of one.
    """
    body = _body(hu)
    return None if body is None else float(2 * np.sqrt(int(body.sum()) * pixel_area_mm2 / np.pi))


def water_equivalent_diameter_mm(hu: Slice, pixel_area_mm2: float) -> float | None:
    """The diameter of the cylinder of water that attenuates like the body in the slice (AAPM Report 220).

    Parameters and None as :func:`effective_diameter_mm`.

    Returns
    -------
    float or None
        mm.
    """
    body = _body(hu)
    if body is None:
        return None
    water = max(float(np.sum(hu[body] / 1000.0 + 1.0, dtype=np.float64)), 0.0)
    return float(2 * np.sqrt(water * pixel_area_mm2 / np.pi))


def _body(hu: Slice) -> Mask | None:
    """The pixels within the body's outline."""
    parts, count = ndimage.label(ndimage.binary_opening(hu > BODY_HU, iterations=OPENING_PIXELS))
    if not count:
        return None
    largest = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    body: Mask = ndimage.binary_fill_holes(parts == largest)
    return None if int(body.sum()) > MOST_FILLED * hu.size else body
