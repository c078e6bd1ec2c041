"""What every instance that the node writes has in common, denoised or simulated."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydicom.charset import convert_encodings, encode_string
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.pixels.utils import get_expected_length
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
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.reading.volume import BITS_ALLOCATED, stored_range
from iscl_node.dicom.uids import hashed_number
from iscl_node.domain import IMPLEMENTATION_CLASS_UID, implementation_version_name

LOSSY_SYNTAXES: Final[Mapping[UID, str]] = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    JPEG2000MC: "ISO_15444_2",
    HTJ2K: "ISO_15444_15",
}
"""Transfer syntaxes that may have lost something (PS3.5 A.4), and their Lossy Image Compression Method."""
ALWAYS_LOSSY: Final = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
"""The others have a lossless mode, so that an attribute that denies the loss is believed."""
_ONE_FOR_EACH_LOSS: Final = frozenset({"LossyImageCompressionMethod", "LossyImageCompressionRatio"})

LO_MAX_CHARACTERS: Final = 64
IS_MAX: Final = 2**31 - 1
NUMBERS_PER_SERIES: Final = 1000
"""The Series Number of what is made of a series is this many times the source's, and less than this."""
LARGE_NUMBERS: Final = range(2_000_000, IS_MAX // NUMBERS_PER_SERIES)
"""Stand for source series whose own number cannot be used; no scanner counts so far."""
USUAL_IMAGE_TYPE: Final = ("ORIGINAL", "PRIMARY", "AXIAL")
_NOT_VALID: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are not of the character set they are said to be in."""
_OFFSET: Final = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]")
"""Timezone Offset From UTC, -1200 to +1400 (PS3.3 C.12.1)."""


def as_written(time: datetime, source: Dataset, time_zone: str = "") -> datetime:
    """Return the time in the zone that the source's dates and times are in (PS3.3 C.12.1), or else in the site's.

    Parameters
    ----------
    time : datetime
        One without a zone is taken as it is.
    source : Dataset
        An instance of the source series.
    time_zone : str
        Name of the site's in the IANA's database; empty for the time as it is.
    """
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    if time.tzinfo is None or (_OFFSET.fullmatch(offset) is None and not time_zone):
        return time
    if _OFFSET.fullmatch(offset) is None:
        return time.astimezone(ZoneInfo(time_zone))
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return time.astimezone(timezone(timedelta(minutes=-minutes if offset.startswith("-") else minutes)))


def set_time_zone(dataset: Dataset, source: Dataset, written: datetime, time_zone: str) -> None:
    """Write Timezone Offset From UTC where the source has none and the site's zone is known.

    The attribute is of all dates and times of an instance (PS3.3 C.12.1). It is left out where those of the source are
    on the other side of a change of the clocks.
    """
    if not time_zone or "TimezoneOffsetFromUTC" in source or written.tzinfo is None:
        return
    zone = ZoneInfo(time_zone)
    days = (_day(source.get(f"{name}Date")) for name in ("Study", "Series", "Acquisition", "Content"))
    if all(day.replace(tzinfo=zone).utcoffset() == written.utcoffset() for day in days if day is not None):
        dataset.TimezoneOffsetFromUTC = f"{written:%z}"[:5]


def _day(value: object) -> datetime | None:
    """Noon of a date; None if it is none."""
    try:
        return datetime.strptime(f"{value}12", "%Y%m%d%H")
    except ValueError:
        return None


def set_times(dataset: Dataset, time: datetime, *names: str) -> None:
    """Set the date and the time of each name, for example of ``Series``."""
    for name in names:
        setattr(dataset, f"{name}Date", time.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", time.strftime("%H%M%S.%f"))


def set_series_description(dataset: Dataset, source: Dataset, suffix: str) -> None:
    """Set ``series_description``, with the very bytes of a source's that are not valid in its character set.

    A description that must be cut is the exception: where a character ends is not known in such bytes.
    """
    description = dataset.SeriesDescription = series_description(source, suffix)
    raw = source.get_item("SeriesDescription")
    is_whole = description == (_description(source) + suffix).strip()
    if isinstance(raw, RawDataElement) and is_whole and _NOT_VALID in description:
        value = raw.value.strip(b" \0") + suffix.encode("ascii")
        value += b" " * (len(value) % 2)
        dataset[raw.tag] = RawDataElement(raw.tag, "LO", len(value), value, 0, False, True)


def series_description(source: Dataset, suffix: str) -> str:
    """Return the source's Series Description with the suffix, in at most 64 characters: the former is cut.

    Characters, not bytes, are what PS3.5 6.2 counts, and some readers count a padding space, too. They are encoded anew
    in the source's Specific Character Set, so that what is cut is valid in it. The suffix is ASCII, which each holds.
    """
    text = _description(source)
    longest = (text[: LO_MAX_CHARACTERS - len(suffix)] + suffix).strip()
    padding = len(encode_string(longest, convert_encodings(source.get("SpecificCharacterSet")))) % 2
    return (text[: LO_MAX_CHARACTERS - padding - len(suffix)] + suffix).strip()


def _description(source: Dataset) -> str:
    """Return the source's Series Description; its bytes stay in the source as they are."""
    element = source.get_item("SeriesDescription")
    if isinstance(element, RawDataElement):
        element = convert_raw_data_element(element, encoding=source.original_character_set, ds=source)
    value = (element and element.value) or ""
    # A backslash is not allowed in LO, yet found: pydicom reads it as several values.
    return " ".join(value) if isinstance(value, MultiValue) else str(value)


def series_number(source: Dataset, own: int) -> int:
    """Return a Series Number that shows the source's and fits IS (PS3.5 6.2).

    Source series with different numbers never get the same one, as long as ``own`` is below 1000. A series without a
    number, or with one that is negative or too large, counts as one with a large number that its UID decides: two of
    them get the same with a chance of 1 in 147 483, less where ``own`` depends on the UID, too.

    Parameters
    ----------
    source : Dataset
        An instance of the source series.
    own : int
        What kind of series is made of it, below ``NUMBERS_PER_SERIES``.
    """
    found = numbers(source, "SeriesNumber", 1)
    if found is None or not 0 <= found[0] < LARGE_NUMBERS[0]:
        return (
            LARGE_NUMBERS[0] + hashed_number(source.SeriesInstanceUID, len(LARGE_NUMBERS))
        ) * NUMBERS_PER_SERIES + own
    return int(found[0]) * NUMBERS_PER_SERIES + own


def derived_image_type(source: Dataset) -> list[str]:
    """Return the Image Type of new pixels (PS3.3 C.7.6.1.1.2).

    Only value 1 is about the pixels; the others, about the examination and the plane, are the source's, and the usual
    ones where the source has fewer than the three of a CT Image (PS3.3 C.8.2.1.1.1).
    """
    image_type = source.get("ImageType") or ()
    values = [image_type] if isinstance(image_type, str) else list(image_type)
    return ["DERIVED", *values[1:], *USUAL_IMAGE_TYPE[max(1, len(values)) :]]


def name_source(dataset: Dataset, source: Dataset) -> None:
    """Refer to the source image and its series, behind the series that the source itself refers to."""
    dataset.SourceImageSequence = Sequence([provenance.source_image(source)])
    _refer_to_series(dataset, source)
    append_item(dataset, "RelatedSeriesSequence", provenance.related_series(source))


def _refer_to_series(dataset: Dataset, source: Dataset) -> None:
    """Name the source instance in its series' item of the Referenced Series Sequence, a new one if there is none."""
    for item in dataset.get("ReferencedSeriesSequence") or ():
        if item.get("SeriesInstanceUID") == source.SeriesInstanceUID:
            append_item(item, "ReferencedInstanceSequence", provenance.referenced_instance(source))
            return
    append_item(dataset, "ReferencedSeriesSequence", provenance.referenced_series(source))


def append_item(dataset: Dataset, keyword: str, item: Dataset) -> None:
    """Append an item to a sequence, which need not be there yet."""
    setattr(dataset, keyword, Sequence([*(dataset.get(keyword) or ()), item]))


def keep_loss_history(dataset: Dataset, source: Dataset) -> None:
    """PS3.3 C.7.6.1.1.5: once lossy, always lossy, also when the new pixels are not compressed.

    Ratios and methods of earlier losses are inherited; one that only the transfer syntax shows is added. Where the
    source names one loss at most, what it does not name, method or ratio, is that of its own pixels.
    """
    syntax = UID(source.file_meta.TransferSyntaxUID) if hasattr(source, "file_meta") else UID("")
    is_denied = dataset.get("LossyImageCompression") == "00" and syntax not in ALWAYS_LOSSY
    if syntax not in LOSSY_SYNTAXES or is_denied:
        return
    dataset.LossyImageCompression = "01"
    missing = {keyword for keyword in _ONE_FOR_EACH_LOSS if not dataset.get(keyword)}
    if any(dataset[keyword].VM > 1 for keyword in _ONE_FOR_EACH_LOSS - missing):
        return
    if "LossyImageCompressionMethod" in missing:
        dataset.LossyImageCompressionMethod = LOSSY_SYNTAXES[syntax]
    if "LossyImageCompressionRatio" in missing:
        dataset.LossyImageCompressionRatio = _compression_ratio(source)


def _compression_ratio(source: Dataset) -> float:
    """Return the native length over the compressed one, with the offset table; PS3.3 C.7.6.1.1.5.2 asks for no more."""
    return round(get_expected_length(source, unit="bytes") / max(1, len(source.PixelData)), 2)


def set_pixels(dataset: Dataset, stored: npt.NDArray[np.integer[Any]]) -> None:
    """Set Pixel Data, native and with 16 bits, and the smallest and largest value where the data set has them.

    Declared padding that lies beyond Bits Stored stays: then all 16 bits are stored ones.
    """
    is_signed = int(dataset.PixelRepresentation) == 1
    smallest, largest = stored_range(dataset)
    if stored.size and (stored.min() < smallest or stored.max() > largest):
        dataset.BitsStored, dataset.HighBit = BITS_ALLOCATED, BITS_ALLOCATED - 1
    dataset.add_new("PixelData", "OW", stored.astype("<i2" if is_signed else "<u2", copy=False).tobytes())
    extremes = (("SmallestImagePixelValue", stored.min()), ("LargestImagePixelValue", stored.max()))
    for keyword, value in extremes:
        if keyword in dataset:
            del dataset[keyword]
            dataset.add_new(keyword, "SS" if is_signed else "US", int(value))


def as_file(dataset: Dataset, version: str, ae_title: str = "") -> FileDataset:
    """Add the file meta information of a native Explicit VR Little Endian file.

    Parameters
    ----------
    dataset : Dataset
        A complete instance.
    version : str
        The node's version, for Implementation Version Name.
    ae_title : str
        Who writes the file, for Source Application Entity Title (PS3.10 7.1); left out when empty.
    """
    file_meta = FileMetaDataset()
    file_meta.FileMetaInformationVersion = b"\x00\x01"
    file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    file_meta.ImplementationVersionName = implementation_version_name(version)
    if ae_title:
        file_meta.SourceApplicationEntityTitle = ae_title
    file = FileDataset("", dataset, b"\0" * 128, file_meta, is_implicit_VR=False, is_little_endian=True)
    # FileDataset takes its own encoding for the one of the inherited raw bytes; they are still in the source's.
    is_implicit, is_little_endian = dataset.original_encoding
    file.set_original_encoding(is_implicit, is_little_endian, dataset.original_character_set)
    return file
