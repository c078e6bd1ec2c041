"""Hounsfield units from stored pixel values and back, without harm to padding and to what did not change."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.pixels.utils import pixel_array

from iscl_node.dicom.reading.bits import in_bits, overlay_bits, solid
from iscl_node.dicom.reading.codec import PixelForm
from iscl_node.dicom.reading.decoding import decoded
from iscl_node.errors import QuarantineSeriesError

Slice = npt.NDArray[np.float32]
Stored = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

BITS_ALLOCATED: Final = 16
"""The only value for a CT Image (PS3.3 C.8.2.1.1.4)."""

TISSUE_HU: Final = -500.0
"""A padding value above this may be a value of the body as well; converters fill in 0 for every image."""


def stored_values(dataset: Dataset) -> Stored:
    """Decode the stored pixel values of a single-frame image, compressed or not.

    Parameters
    ----------
    dataset : Dataset
        An instance that ``series.select_series`` let pass.

    Returns
    -------
    int32 array, shape (H, W)
        The stored values, signed as Pixel Representation says.

    Raises
    ------
    QuarantineSeriesError
        When the pixels cannot be decoded, or their values run on beyond Bits Stored.
    """
    cells = _decoded(dataset)
    smallest, largest = stored_range(dataset)
    if not cells.size or (cells.min() >= smallest and cells.max() <= largest):
        return cells
    padding = padding_range(dataset)
    declared = np.zeros(cells.shape, np.bool_) if padding is None else _within(cells, padding)
    return in_bits(cells, int(dataset.BitsStored), _is_signed(dataset), declared, overlay_bits(dataset))


def pixel_form(dataset: Dataset, transfer_syntax_uid: str | None = None) -> PixelForm:
    """Return what a codec must know of an image's pixels, in its own transfer syntax or in another one."""
    syntax = transfer_syntax_uid or dataset.file_meta.TransferSyntaxUID
    return PixelForm(str(syntax), int(dataset.Rows), int(dataset.Columns), int(dataset.BitsStored), _is_signed(dataset))


def stored_range(dataset: Dataset) -> tuple[int, int]:
    """Return the smallest and the largest value that Bits Stored and Pixel Representation allow (PS3.3 C.7.6.3.1)."""
    bits = int(dataset.BitsStored)
    smallest = -(1 << (bits - 1)) if _is_signed(dataset) else 0
    return smallest, smallest + (1 << bits) - 1


def to_hu(dataset: Dataset) -> Slice:
    """Return the image in Hounsfield units (PS3.3 C.11.1.1.2: slope times stored value plus intercept).

    Returns
    -------
    float32 array, shape (H, W)
        Hounsfield units, padding pixels included.

    Raises
    ------
    QuarantineSeriesError
        As ``stored_values``.
    """
    return _rescale(stored_values(dataset), dataset)


def padding_mask(dataset: Dataset) -> Mask:
    """Find the pixels that are padding by Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2).

    Returns
    -------
    bool array, shape (H, W)
        True where the pixel is outside the reconstructed area; all False when no padding value is given. Where the
        value lies among those of tissue, single pixels of the body have it, too: then only what is coherent counts.
    """
    stored = stored_values(dataset)
    padding = padding_range(dataset)
    if padding is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    mask = _within(stored, padding)
    return solid(mask) if _hu_of(padding[1], dataset) > TISSUE_HU and mask.any() else mask


def padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """Return the smallest and the largest padding value, both inclusive, or None."""
    value = _padding_attribute(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _padding_attribute(dataset, "PixelPaddingRangeLimit")
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def to_stored(hu: Slice, dataset: Dataset, source_stored: Stored, padding: Mask) -> Stored:
    """Return the stored values of processed Hounsfield units, in the source's own rescale and bits.

    Pixels whose value in HU is the source's keep its stored value exactly, and so do padding pixels.
    The others are rounded, clipped to Bits Stored, and kept off the padding values.

    Parameters
    ----------
    hu : float32 array, shape (H, W)
        The processed image in Hounsfield units.
    dataset : Dataset
        The source.
    source_stored : int32 array, shape (H, W)
        The source's stored values.
    padding : bool array, shape (H, W)
        Where the source holds padding.

    Returns
    -------
    int32 array, shape (H, W)
        Stored values that fit Bits Stored and Pixel Representation.

    Raises
    ------
    QuarantineSeriesError
        When a value is not finite or the shape is not the source's.
    """
    if hu.shape != source_stored.shape or not np.isfinite(hu).all():
        raise QuarantineSeriesError(f"the processed image {hu.shape} is not finite or not {source_stored.shape}")
    kept = padding | (hu == _rescale(source_stored, dataset))
    return np.where(kept, source_stored, _quantize(hu, dataset, is_padded=bool(padding.any())))


def _decoded(dataset: Dataset) -> Stored:
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return decoded(pixel_form(dataset), dataset.PixelData)
    if _is_little_endian(dataset):
        return _native(dataset)
    try:
        # Left to itself pydicom silently wraps values that do not fit, which turns a padding of -3024 into bone.
        return pixel_array(dataset, correct_unused_bits=False).astype(np.int32)
    except (AttributeError, BytesLengthException, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise QuarantineSeriesError(f"the pixels cannot be decoded ({type(error).__name__})") from error


def _is_little_endian(dataset: Dataset) -> bool:
    return bool(dataset.file_meta.TransferSyntaxUID.is_little_endian)


def _native(dataset: Dataset) -> Stored:
    """The cells of a native image; what follows the image in Pixel Data is padding (PS3.5 8.1.1)."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    length = rows * columns * BITS_ALLOCATED // 8
    value = dataset.get("PixelData") or b""
    if len(value) < length:
        raise QuarantineSeriesError(f"Pixel Data has {len(value)} bytes where {length} were expected")
    kind = "<i2" if _is_signed(dataset) else "<u2"
    return np.frombuffer(value, kind, rows * columns).reshape(rows, columns).astype(np.int32)


def _rescale(stored: Stored, dataset: Dataset) -> Slice:
    # In float64 until the end: large intercepts would cost float32 its last bits.
    hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return hu.astype(np.float32)


def _hu_of(stored: int, dataset: Dataset) -> float:
    return stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def _quantize(hu: Slice, dataset: Dataset, is_padded: bool) -> Stored:
    exact = (hu.astype(np.float64) - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
    limits = stored_range(dataset)
    stored = np.clip(np.rint(exact), *limits).astype(np.int32)
    padding = padding_range(dataset)
    if padding is None or (not is_padded and _hu_of(padding[1], dataset) > TISSUE_HU):
        return stored
    return _beside(stored, padding, limits)


def _beside(stored: Stored, padding: tuple[int, int], limits: tuple[int, int]) -> Stored:
    """Move values out of the padding range: one step above it, or below it where nothing is above."""
    beside = padding[1] + 1 if padding[1] < limits[1] else padding[0] - 1
    return np.where(_within(stored, padding), np.int32(beside), stored)


def _within(stored: Stored, padding: tuple[int, int]) -> Mask:
    return (stored >= padding[0]) & (stored <= padding[1])


def _padding_attribute(dataset: Dataset, keyword: str) -> int | None:
    """Read a padding value with the signedness of the pixels, whichever of US and SS it was written with."""
    value = _padding_number(dataset, keyword)
    if value is None:
        return None
    if not _is_signed(dataset):
        return value % (1 << BITS_ALLOCATED)
    _, largest = stored_range(dataset)
    # Written as US: the two's complement in 16 bits, or in Bits Stored where it has no more bits than these.
    width = int(dataset.BitsStored) if value < 1 << int(dataset.BitsStored) else BITS_ALLOCATED
    return value - (1 << width) if value > largest else value


def _padding_number(dataset: Dataset, keyword: str) -> int | None:
    """Read a padding value that is written as it should not be, too: as a word (OW), or the first of several."""
    value = dataset.get(keyword)
    if isinstance(value, bytes):
        order: Literal["little", "big"] = "big" if dataset.original_encoding[1] is False else "little"
        return int.from_bytes(value[:2], order) if len(value) >= 2 else None
    if isinstance(value, Sequence):
        value = next(iter(value), None)
    return value if isinstance(value, int) else None


def _is_signed(dataset: Dataset) -> bool:
    return int(dataset.PixelRepresentation) == 1
