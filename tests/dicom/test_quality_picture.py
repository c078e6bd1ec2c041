"""The picture of what the judge turned down."""

from io import BytesIO

import numpy as np
import pytest
from phantom import anatomy, noise
from PIL import Image

from iscl_node.dicom.judging.picture import picture

SOURCE = anatomy() + noise(20, 0)


@pytest.mark.parametrize(
    "result", [anatomy(), np.full_like(SOURCE, np.nan), SOURCE[1:], SOURCE], ids=["good", "nan", "size", "same"]
)
def test_draws_whatever_the_result_is(result: np.ndarray) -> None:
    drawn = Image.open(BytesIO(picture(SOURCE, result, "the mean of fat moved by +9.0 HU; " * 8)))
    assert drawn.format == "PNG"
    assert drawn.width > drawn.height > 300
