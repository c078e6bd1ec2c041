"""What every instance that the node writes has in common, whatever was done to its pixels."""

from datetime import datetime, timedelta, timezone
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from iscl_node.dicom import provenance
from iscl_node.dicom.uids import IMPLEMENTATION_CLASS_UID, implementation_version_name

LOSSY_SYNTAXES: Final = frozenset(
    {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC, HTJ2K}
)
"""Transfer syntaxes that may have lost something (PS3.5 A.4)."""

LO_MAX_CHARACTERS: Final = 64
IS_MAX: Final = 2**31 - 1


def as_written(time: datetime, source: Dataset) -> datetime:
    """Return the time in the zone that the source says its dates and times are in (PS3.3 C.12.1)."""
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    if time.tzinfo is None or len(offset) != len("+HHMM") or not offset[1:].isdecimal():
        return time
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return time.astimezone(timezone(timedelta(minutes=-minutes if offset.startswith("-") else minutes)))


def set_times(dataset: Dataset, time: datetime, *names: str) -> None:
    """Set the date and the time of each name, for example of ``Series``."""
    for name in names:
        setattr(dataset, f"{name}Date", time.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", time.strftime("%H%M%S.%f"))


def series_description(source: Dataset, suffix: str) -> str:
    """Return the source's Series Description with the suffix, cut to 64 characters at the cost of the former."""
    value = source.get("SeriesDescription") or ""
    # A backslash is not allowed in LO, yet found: pydicom reads it as several values.
    text = " ".join(value) if isinstance(value, MultiValue) else str(value)
    return (text[: max(0, LO_MAX_CHARACTERS - len(suffix))] + suffix).strip()[:LO_MAX_CHARACTERS]


def series_number(source: Dataset, own: int, numbers_per_series: int) -> int:
    """Return a Series Number that tells the source's and fits IS (PS3.5 6.2).

    It is ``numbers_per_series`` times the source's, and ``own``; just ``own`` when there is no number or no room.
    """
    number = int(source.get("SeriesNumber") or 0)
    has_room = 0 <= number <= (IS_MAX - own) // numbers_per_series
    return number * numbers_per_series + own if has_room else own


def derived_image_type(source: Dataset) -> list[str]:
    """Return the Image Type of new pixels (PS3.3 C.7.6.1.1.2).

    Only value 1 tells of the pixels; the others, of the examination and the plane, are the source's.
    """
    image_type = source.get("ImageType") or ("ORIGINAL", "PRIMARY", "AXIAL")
    others = ["PRIMARY"] if isinstance(image_type, str) else image_type[1:]
    return ["DERIVED", *others]


def name_source(dataset: Dataset, source: Dataset) -> None:
    """Refer to the source image and its series, behind the series that the source itself refers to."""
    dataset.SourceImageSequence = Sequence([provenance.source_image(source)])
    append_item(dataset, "ReferencedSeriesSequence", provenance.referenced_series(source))
    append_item(dataset, "RelatedSeriesSequence", provenance.related_series(source))


def append_item(dataset: Dataset, keyword: str, item: Dataset) -> None:
    """Append an item to a sequence, which need not be there yet."""
    setattr(dataset, keyword, Sequence([*(dataset.get(keyword) or ()), item]))


def keep_loss_history(dataset: Dataset, source: Dataset) -> None:
    """PS3.3 C.7.6.1.1.5: once lossy, always lossy, also when the new pixels are not compressed."""
    syntax = source.file_meta.TransferSyntaxUID if hasattr(source, "file_meta") else None
    if syntax in LOSSY_SYNTAXES and "LossyImageCompression" not in dataset:
        dataset.LossyImageCompression = "01"


def set_pixels(dataset: Dataset, stored: npt.NDArray[np.integer[Any]]) -> None:
    """Set Pixel Data, native and with 16 bits, and the smallest and largest value where the data set has them."""
    is_signed = int(dataset.PixelRepresentation) == 1
    dataset.add_new("PixelData", "OW", stored.astype("<i2" if is_signed else "<u2", copy=False).tobytes())
    extremes = (("SmallestImagePixelValue", stored.min()), ("LargestImagePixelValue", stored.max()))
    for keyword, value in extremes:
        if keyword in dataset:
            del dataset[keyword]
            dataset.add_new(keyword, "SS" if is_signed else "US", int(value))


def as_file(dataset: Dataset, version: str | None) -> FileDataset:
    """Add the file meta information of a native Explicit VR Little Endian file.

    Parameters
    ----------
    dataset : Dataset
        A complete instance.
    version : str or None
        The node's version, for Implementation Version Name; without one pydicom writes its own name there.
    """
    file_meta = FileMetaDataset()
    file_meta.FileMetaInformationVersion = b"\x00\x01"
    file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    if version is not None:
        file_meta.ImplementationVersionName = implementation_version_name(version)
    file = FileDataset("", dataset, b"\0" * 128, file_meta, is_implicit_VR=False, is_little_endian=True)
    # FileDataset takes its own encoding for the one of the inherited raw bytes; they are still in the source's.
    is_implicit, is_little_endian = dataset.original_encoding
    file.set_original_encoding(is_implicit, is_little_endian, dataset.original_character_set)
    return file
