"""Scouts whose Image Type does not say so: anonymisers and converters rewrite it, and geometry remains."""

import re
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from iscl_node.dicom.reading.legible import texts
from iscl_node.dicom.reading.values import code, number, numbers

THICKEST_MM: Final = 100.0
"""Of a reconstructed slice; a projection sums up the whole patient, and scanners write that as its thickness."""
LEAST_AXIAL: Final = 0.5
"""The cosine between the normal of an axial slice and the table, with the gantry tilted by up to 60 degrees."""

_WORDS: Final = re.compile(r"topogram|scout|surview|scanogram|localizer|localiser|lokalizer|scanoscope", re.IGNORECASE)
_TOPOGRAM_KERNEL: Final = re.compile(r"T\d", re.IGNORECASE)


def is_projection(dataset: Dataset) -> bool:
    """Whether an image is a scout by its plane together with its thickness, its kernel or its description.

    A coronal or sagittal image that is a reformat says DERIVED, or has the kernel and the thickness of its slices.
    """
    if _is_axial(dataset) is not False:
        return _is_axial(dataset) is None and _says_so(dataset) and not _is_reconstructed(dataset)
    thickness = number(dataset, "SliceThickness") or 0
    is_original = code(dataset, "ImageType") != "DERIVED"
    return thickness >= THICKEST_MM or _says_so(dataset) or (is_original and not _is_reconstructed(dataset))


def _is_axial(dataset: Dataset) -> bool | None:
    """None where there is no Image Orientation."""
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    if orientation is None:
        return None
    return bool(abs(np.cross(orientation[:3], orientation[3:])[2]) >= LEAST_AXIAL)


def _is_reconstructed(dataset: Dataset) -> bool:
    """A kernel, but that of Siemens' topograms (T20f), or a diameter of reconstruction (PS3.3 C.8.2.1)."""
    kernel = texts(dataset, "ConvolutionKernel")[0]
    return bool(kernel and not _TOPOGRAM_KERNEL.match(kernel)) or bool(number(dataset, "ReconstructionDiameter"))


def _says_so(dataset: Dataset) -> bool:
    return any(_WORDS.search(texts(dataset, keyword)[0]) for keyword in ("SeriesDescription", "ImageComments"))
