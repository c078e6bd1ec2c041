"""Bits Stored of a cell are the value; the others hold whatever."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from factories import ct_dataset
from real_ct import NOW

from iscl_node.dicom.deriving.derived import derive
from iscl_node.dicom.reading.volume import padding_mask, stored_values, to_hu
from iscl_node.domain import Derivation
from iscl_node.errors import QuarantineSeriesError

Array = npt.NDArray[np.int64]


def head(side: int = 96) -> Array:
    """HU of a noisy head with a skull."""
    y, x = np.mgrid[:side, :side] - side / 2
    radius = np.hypot(x, y) / side
    hu = np.where(radius < 0.45, np.where(radius > 0.4, 800, 30), -1000)
    noisy = hu + np.random.default_rng(0).normal(0, 15, hu.shape)
    return np.rint(np.maximum(noisy, -1020)).astype(np.int64)


def image(cells: Array, bits: int = 12, is_signed: bool = False, **overrides: Any) -> Any:
    form = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(is_signed)}
    intercept = {"RescaleIntercept": 0 if is_signed else -1024}
    return ct_dataset((cells & 0xFFFF).astype(np.uint16), **(form | intercept | overrides))


def overlay(dataset: Any, bit: int) -> Any:
    for element, vr, value in ((0x10, "US", 96), (0x11, "US", 96), (0x40, "CS", "G"), (0x50, "SS", [1, 1])):
        dataset.add_new((0x6000, element), vr, value)
    dataset.add_new((0x6000, 0x100), "US", 16)
    dataset.add_new((0x6000, 0x102), "US", bit)
    return dataset


STORED = head() + 1024
RANDOM = np.random.default_rng(1).integers(0, 16, STORED.shape) << 12
BLOCK = np.zeros_like(STORED)
BLOCK[40:56, 8:88] = 1 << 13


@pytest.mark.parametrize(
    "dataset",
    [
        overlay(image(STORED | BLOCK), 13),
        image(STORED | BLOCK),
        image(STORED | RANDOM),
        image((head() & 0x0FFF) | RANDOM, is_signed=True),
        image(head() & 0x0FFF, is_signed=True),
        image(head(), is_signed=True),
        image(STORED),
    ],
    ids=["overlay", "overlay not told", "stray bits", "stray, signed", "sign not extended", "signed", "clean"],
)
@pytest.mark.fault(
    "processing",
    "overlays or stray bits in the unused bits of the pixels, a sign that is not extended",
    "the value is Bits Stored wide; the derived object has clean bits and no overlay in them",
)
def test_the_unused_bits_are_not_looked_at(dataset: Any, derivation: Derivation) -> None:
    before = dataset.PixelData
    np.testing.assert_array_equal(to_hu(dataset), head())
    derived = derive(dataset, to_hu(dataset), derivation, NOW, NOW)
    np.testing.assert_array_equal(stored_values(derived), stored_values(dataset))
    cells = np.frombuffer(derived.PixelData, "<i2" if dataset.PixelRepresentation else "<u2").astype(int)
    assert derived.BitsStored == 12
    assert -2048 <= cells.min() <= cells.max() < 4096
    assert (0x6000, 0x102) not in derived
    assert dataset.PixelData == before


def cone(top_hu: float) -> Array:
    y, x = np.mgrid[:96, :96] - 48
    return np.maximum(head(), np.rint(top_hu - 150 * np.hypot(x, y)).astype(np.int64))


def implant(hu: int) -> Array:
    image = head()
    image[40:50, 40:50] = hu
    return image


@pytest.mark.parametrize(
    "dataset",
    [
        image(cone(5500) + 1024),
        image(implant(4000) + 1024),
        image(cone(3000), is_signed=True),
        image(np.where(head() < -500, -3024, head()), is_signed=True),
    ],
    ids=["metal", "metal with sharp edges", "signed metal", "padding that is not declared"],
)
@pytest.mark.fault("processing", "pixel values run on beyond Bits Stored", "quarantine, never metal that becomes water")
def test_values_that_run_on_are_quarantined(dataset: Any) -> None:
    with pytest.raises(QuarantineSeriesError, match="do not fit the 12 Bits Stored"):
        stored_values(dataset)


def test_declared_padding_beyond_bits_stored_stays_padding(derivation: Derivation) -> None:
    cells = np.where(head() < -500, 63536, STORED)
    dataset = image(cells)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    mask = padding_mask(dataset)
    np.testing.assert_array_equal(mask, head() < -500)
    derived = derive(dataset, np.where(mask, 0, to_hu(dataset) + 1).astype(np.float32), derivation, NOW, NOW)
    assert (derived.BitsStored, derived.HighBit, derived.PixelPaddingValue) == (16, 15, 63536)
    np.testing.assert_array_equal(stored_values(derived), np.where(mask, 63536, STORED + 1))


def test_a_padding_value_among_tissue_is_padding_only_where_it_is_coherent(derivation: Derivation) -> None:
    hu = head()
    hu[:20, :20] = 0
    dataset = image(hu, 16, is_signed=True)
    dataset.add_new("PixelPaddingValue", "SS", 0)
    mask = padding_mask(dataset)
    assert mask[:20, :20].all()
    assert (hu[30:, 30:] == 0).any()
    assert not mask[30:, 30:].any()


def test_a_padding_value_of_the_body_alone_moves_no_value(derivation: Derivation) -> None:
    dataset = image(head(), 16, is_signed=True)
    dataset.add_new("PixelPaddingValue", "SS", 0)
    assert not padding_mask(dataset).any()
    derived = derive(dataset, np.zeros((96, 96), np.float32), derivation, NOW, NOW)
    assert not stored_values(derived).any()
