"""Telling two lesions apart: the lesions have the same area, and what is done to all noise alike changes nothing."""

import numpy as np
import pytest

from iscl_node.assessment.characterisation import characterisation, spiculated, tasks, two_discs
from iscl_node.assessment.detection import SIDE, water
from monai_bundle.scripts.evaluation.observers import disc


def test_lesions_that_are_to_be_told_apart_have_the_same_area() -> None:
    assert spiculated(SIDE, 11.0).sum() == pytest.approx(disc(SIDE, 11.0).sum(), rel=0.01)
    assert two_discs(SIDE, 4.0, 7.0).sum() == pytest.approx(disc(SIDE, 4.0 * 2**0.5).sum(), rel=0.02)
    for one, other in tasks(0.7).values():
        assert one.sum() == pytest.approx(other.sum(), rel=0.02)
        assert np.abs(one - other).max() > 5


def test_a_scaled_image_tells_as_much_and_more_noise_tells_less() -> None:
    more = np.random.default_rng(0).normal(0, 40, water(1).images[0].shape)
    rows = {
        (row["task"], row["form"]): row
        for row in characterisation(water(1), lambda image: {"scaled": 2 * image, "noisier": image + more})
    }
    for task in tasks(0.7):
        assert rows[task, "scaled"]["d' prewhitening"] == pytest.approx(0, abs=1e-6)
        assert rows[task, "scaled"]["d' NPW"] == pytest.approx(0, abs=1e-6)
        assert float(rows[task, "noisier"]["d' prewhitening"]) < -0.2
        assert float(rows[task, "noisier"]["d' NPW"]) < -0.2
