"""Signed pixels, of which a JPEG 2000 code stream says that they are unsigned (PS3.5 8.2.4)."""

import numpy as np
import pytest
from compression import compressed
from factories import ct_dataset, soft_tissue
from pydicom.uid import JPEG2000Lossless

from iscl_node.dicom.reading.volume import to_hu


@pytest.mark.fault(
    "processing",
    "a code stream that says unsigned of signed pixels",
    "the bits are read as Pixel Representation says",
)
def test_the_sign_is_that_of_the_attributes() -> None:
    stored = soft_tissue() - np.int16(1024)
    signed = ct_dataset(stored, RescaleIntercept=0)
    cells = ct_dataset(stored.view(np.uint16), RescaleIntercept=0, PixelRepresentation=0)
    image = compressed(cells, JPEG2000Lossless)
    image.PixelRepresentation = 1
    np.testing.assert_array_equal(to_hu(image), to_hu(signed))
