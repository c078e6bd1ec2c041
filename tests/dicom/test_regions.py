"""Where a slice changed most."""

import numpy as np

from iscl_node.dicom.judging.regions import changed_most


def test_a_lesion_that_went_is_boxed_and_the_noise_is_not() -> None:
    random = np.random.default_rng(1)
    source = random.normal(40, 10, (128, 128)).astype(np.float32)
    derived = source - random.normal(0, 10, source.shape).astype(np.float32)
    derived[60:76, 20:36] -= 60
    (box,) = changed_most(source, derived)
    assert box.top <= 60 < 76 <= box.bottom
    assert box.left <= 20 < 36 <= box.right
    assert (box.bottom - box.top) * (box.right - box.left) < 50 * 50


def test_without_a_comparison_there_is_no_box() -> None:
    image = np.zeros((16, 16), np.float32)
    assert changed_most(image, image) == []
    assert changed_most(image, np.full((16, 16), np.nan, np.float32)) == []
    assert changed_most(image, np.zeros((8, 8), np.float32)) == []


def test_of_many_places_the_largest_are_told() -> None:
    image = np.zeros((256, 256), np.float32)
    changed = image.copy()
    changed[20:240:40, 20:240:40] = 500
    changed[100:140, 100:140] = 500
    boxes = changed_most(image, changed)
    assert len(boxes) <= 12
    assert boxes[0].bottom - boxes[0].top > 30
