"""Hounsfield units and back: nothing that was not processed may change, and padding is sacred."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from factories import ct_dataset, file_meta_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from iscl_node.dicom.reading.volume import (
    TISSUE_HU,
    padding_mask,
    padding_range,
    stored_range,
    stored_values,
    to_hu,
    to_stored,
)
from iscl_node.errors import QuarantineSeriesError


def of(values: list[int], **overrides: Any) -> Any:
    dtype = np.int16 if overrides.get("PixelRepresentation", 1) else np.uint16
    bits = overrides.get("BitsStored", 16)
    return ct_dataset(np.array([values], dtype=dtype), **{"HighBit": bits - 1, **overrides})


def padding_hu(dataset: Any) -> float:
    return float(dataset.PixelPaddingValue * dataset.RescaleSlope + dataset.RescaleIntercept)


def restored(dataset: Any, hu: npt.NDArray[Any]) -> list[int]:
    stored = to_stored(hu.astype(np.float32), dataset, stored_values(dataset), padding_mask(dataset))
    return [int(value) for value in stored.ravel()]


def test_hu_is_slope_times_stored_plus_intercept() -> None:
    hu = to_hu(of([0, 10, -10], RescaleSlope=2, RescaleIntercept=-1000))
    assert hu.dtype == np.float32
    assert hu.tolist() == [[-1000, -980, -1020]]


@pytest.mark.parametrize(
    ("bits", "representation", "expected"),
    [(12, 0, (0, 4095)), (12, 1, (-2048, 2047)), (16, 0, (0, 65535)), (16, 1, (-32768, 32767))],
)
def test_stored_range(bits: int, representation: int, expected: tuple[int, int]) -> None:
    assert stored_range(of([0], BitsStored=bits, PixelRepresentation=representation)) == expected


@pytest.mark.fault("processing", "stored values that do not fit Bits Stored", "quarantine with the value")
def test_values_beyond_bits_stored_are_quarantined() -> None:
    cells = np.random.default_rng(0).integers(30, 50, (32, 32)).astype(np.int16)
    cells[:8] = -3024  # padding that is declared nowhere; its lowest 12 bits would be bone
    with pytest.raises(QuarantineSeriesError, match="-3024"):
        stored_values(ct_dataset(cells, BitsStored=12, HighBit=11))


@pytest.mark.fault("processing", "native pixels that cannot be decoded", "quarantine with the reason")
def test_undecodable_pixels_are_quarantined() -> None:
    dataset = of([0, 1])
    dataset.PixelData = b"\0"
    with pytest.raises(QuarantineSeriesError, match="1 bytes where 4 were expected"):
        to_hu(dataset)


def test_rounds_and_clips() -> None:
    dataset = of([0, 0, 0, 0], BitsStored=12, RescaleIntercept=0)
    assert restored(dataset, np.array([[1.4, 1.6, 9000, -9000]])) == [1, 2, 2047, -2048]


def test_unsigned_is_clipped_at_zero() -> None:
    dataset = of([5, 5], PixelRepresentation=0, BitsStored=12, RescaleIntercept=-1024)
    assert restored(dataset, np.array([[-2000, 5000]])) == [0, 4095]


def test_padding_is_restored_and_nothing_else_becomes_padding() -> None:
    dataset = of([-2000, 0, 0, 0], PixelPaddingValue=-2000, RescaleIntercept=0)
    assert restored(dataset, np.array([[50, -2000, -2000.3, 7]])) == [-2000, -1999, -1999, 7]


def test_padding_range_is_left_below_where_nothing_is_above() -> None:
    stored = [0, *[32000] * 4]
    dataset = of(stored, PixelPaddingValue=32000, PixelPaddingRangeLimit=32767, RescaleIntercept=0)
    assert restored(dataset, np.array([[32500, *[32000] * 4]])) == [31999, *[32000] * 4]


@pytest.mark.parametrize(("value", "limit"), [(-2000, -1500), (-1500, -2000)])
def test_padding_range_in_either_order(value: int, limit: int) -> None:
    dataset = of([-2001, -2000, -1700, -1500, -1499], PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
    assert padding_mask(dataset).tolist() == [[False, True, True, True, False]]


def test_no_padding_value_means_no_padding() -> None:
    assert padding_range(of([-2000])) is None
    assert not padding_mask(of([-2000])).any()
    assert padding_range(of([-2000], PixelPaddingValue=None)) is None


@pytest.mark.parametrize(
    ("vr", "value", "representation", "bits", "expected"),
    [
        ("US", 63536, 1, 16, -2000),
        ("SS", -2000, 1, 16, -2000),
        ("US", 2048, 1, 12, -2048),
        ("US", 63488, 1, 12, -2048),
        ("SS", -2000, 0, 16, 63536),
        ("US", 63536, 0, 16, 63536),
        ("US", 0, 0, 12, 0),
        ("SS", 100, 1, 12, 100),
    ],
)
def test_padding_value_is_read_with_the_signedness_of_the_pixels(
    vr: str, value: int, representation: int, bits: int, expected: int
) -> None:
    dataset = of([0], PixelRepresentation=representation, BitsStored=bits)
    dataset.add_new("PixelPaddingValue", vr, value)
    assert padding_range(dataset) == (expected, expected)


def test_padding_value_from_implicit_vr() -> None:
    dataset = of([-2000, 5], PixelPaddingValue=-2000)
    dataset["PixelPaddingValue"].VR = "SS"
    dataset.file_meta = file_meta_of(dataset, ImplicitVRLittleEndian)
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True, implicit_vr=True)
    assert padding_mask(dcmread(BytesIO(stream.getvalue()))).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("OW", b"\x30\xf8", -2000),
        ("OW", b"\x30\xf8\x00\x00", -2000),
        ("OW", b"", None),
        ("UN", b"\x30\xf8", -2000),
        ("SS", [-2000, -1000], -2000),
        ("US", [63536, 0], -2000),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_padding_value_that_is_not_one_number_is_read_like_one(
    vr: str, value: bytes | list[int], expected: int | None
) -> None:
    dataset = of([-2000, 5])
    dataset.add_new("PixelPaddingValue", vr, value)
    dataset.file_meta = file_meta_of(dataset, ExplicitVRLittleEndian)
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    found = padding_range(dcmread(BytesIO(stream.getvalue())))
    assert found == (None if expected is None else (expected, expected))


def test_padding_word_of_a_big_endian_source() -> None:
    dataset = of([-2000, 5])
    dataset.add_new("PixelPaddingValue", "OW", b"\xf8\x30")
    dataset.file_meta = file_meta_of(dataset, ExplicitVRBigEndian)
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True, implicit_vr=False, little_endian=False)
    assert padding_range(dcmread(BytesIO(stream.getvalue()))) == (-2000, -2000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.fault("processing", "the model gives NaN or infinity", "quarantine")
def test_not_finite_is_quarantined(value: float) -> None:
    with pytest.raises(QuarantineSeriesError):
        restored(of([0]), np.array([[value]]))


def test_other_shape_is_quarantined() -> None:
    with pytest.raises(QuarantineSeriesError):
        restored(of([0, 1]), np.array([[1.0]]))


@st.composite
def images(draw: st.DrawFn) -> Any:
    bits, signed = draw(st.integers(12, 16)), draw(st.booleans())
    smallest = -(2 ** (bits - 1)) if signed else 0
    largest = smallest + 2**bits - 1
    values = st.integers(smallest, largest)
    pixels = draw(arrays(np.int16 if signed else np.uint16, (3, 5), elements=values))
    padding = draw(st.none() | values)
    return ct_dataset(
        pixels,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(signed),
        PixelPaddingValue=padding,
        RescaleSlope=draw(st.sampled_from(["1", "2", "0.5", "0.1", "0.0152590219", "-1"])),
        RescaleIntercept=draw(st.sampled_from(["0", "-1024", "-1000", "-8192", "0.33", "1000000"])),
    )


@given(images())
def test_identity_returns_the_stored_values(dataset: Any) -> None:
    assert restored(dataset, to_hu(dataset)) == [int(value) for value in dataset.pixel_array.ravel()]


@given(images(), arrays(np.float32, (3, 5), elements=st.floats(-1e6, 1e6, width=32)))
def test_padding_stays_and_the_rest_is_not_padding(dataset: Any, hu: npt.NDArray[Any]) -> None:
    before = dataset.pixel_array
    after = np.array(restored(dataset, hu)).reshape(before.shape)
    if "PixelPaddingValue" in dataset and padding_hu(dataset) <= TISSUE_HU:  # above it may be a value of the body
        assert ((after == dataset.PixelPaddingValue) == (before == dataset.PixelPaddingValue)).all()
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    assert after.min() >= (-(2 ** (bits - 1)) if signed else 0)
    assert after.max() <= (2 ** (bits - 1) - 1 if signed else 2**bits - 1)
