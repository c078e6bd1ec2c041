"""Builds the derived CT instance: the source with new pixels, a new identity, and the story of how it came to be.

What is not named here is kept byte for byte: patient, study, frame of reference, geometry, acquisition, rescale,
window. The equipment stays the scanner's (PS3.3 C.7.5.1); the node tells of itself as a contributor.
"""

from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Final

from pydicom import dcmwrite
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
from iscl_node.dicom.inherited import inherited
from iscl_node.dicom.uids import (
    IMPLEMENTATION_CLASS_UID,
    INSTANCE,
    SERIES,
    derivation_number,
    derived_uid,
    device_uid,
    implementation_version_name,
)
from iscl_node.dicom.volume import Slice, Stored, padding_mask, stored_values, to_stored
from iscl_node.domain import Derivation

LOSSY_SYNTAXES: Final = frozenset(
    {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC, HTJ2K}
)
"""Transfer syntaxes that may have lost something (PS3.5 A.4)."""

LO_MAX_CHARACTERS: Final = 64
IS_MAX: Final = 2**31 - 1
NUMBERS_PER_SERIES: Final = 100
"""A source series 3 becomes 351 to 399: apart from its own series' numbers, and other settings give another number."""
FIRST_NUMBER: Final = 51


def derive(source: Dataset, hu: Slice, derivation: Derivation, series_started: datetime, now: datetime) -> FileDataset:
    """Build the derived instance of one slice, after the attribute table of the project's DICOM specification.

    Parameters
    ----------
    source : Dataset
        The source instance with its pixels, native or compressed; it is not changed.
    hu : float32 array, shape (H, W)
        The processed slice in Hounsfield units.
    derivation : Derivation
        How it was processed.
    series_started : datetime
        When the derived series was begun, the same for all its instances.
    now : datetime
        When this instance is made. Both times are written as the source's Timezone Offset From UTC says; without one
        they are written as they are, so they should then be local times.

    Returns
    -------
    FileDataset
        With file meta information, native Explicit VR Little Endian, ready for ``encode``.

    Raises
    ------
    QuarantineSeriesError
        As ``volume.stored_values`` and ``volume.to_stored``.
    """
    stored = to_stored(hu, source, stored_values(source), padding_mask(source))
    derived = inherited(source)
    _set_identity(derived, source, derivation)
    _set_times(derived, _as_written(series_started, source), _as_written(now, source))
    _set_provenance(derived, source, derivation, _as_written(now, source))
    _keep_loss_history(derived, source)
    _set_pixels(derived, stored)
    return _as_file(derived, derivation)


def encode(dataset: Dataset) -> bytes:
    """Return the DICOM File Format stream (PS3.10 section 7) of an instance."""
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def series_description(source: Dataset, suffix: str) -> str:
    """Return the source's Series Description with the suffix, cut to 64 characters at the cost of the former."""
    value = source.get("SeriesDescription") or ""
    # A backslash is not allowed in LO, yet found: pydicom reads it as several values.
    text = " ".join(value) if isinstance(value, MultiValue) else str(value)
    return (text[: max(0, LO_MAX_CHARACTERS - len(suffix))] + suffix).strip()[:LO_MAX_CHARACTERS]


def series_number(source: Dataset, derivation: Derivation) -> int:
    """Return a Series Number that depends on the source's and on the settings, and fits IS (PS3.5 6.2).

    It is hundred times the source's and 51 to 99, or just the latter when there is no number or no room.
    """
    number = int(source.get("SeriesNumber") or 0)
    own = FIRST_NUMBER + derivation_number(derivation, NUMBERS_PER_SERIES - FIRST_NUMBER)
    has_room = 0 <= number <= (IS_MAX - own) // NUMBERS_PER_SERIES
    return number * NUMBERS_PER_SERIES + own if has_room else own


def _set_identity(derived: Dataset, source: Dataset, derivation: Derivation) -> None:
    derived.SOPInstanceUID = derived_uid(source.SOPInstanceUID, derivation, INSTANCE)
    derived.SeriesInstanceUID = derived_uid(source.SeriesInstanceUID, derivation, SERIES)
    derived.InstanceCreatorUID = device_uid(derivation)
    derived.SeriesNumber = series_number(source, derivation)
    derived.SeriesDescription = series_description(source, derivation.suffix)
    # PS3.3 C.7.6.1.1.2: only value 1 tells of the pixels; the others of the examination and the plane.
    image_type = source.get("ImageType") or ("ORIGINAL", "PRIMARY", "AXIAL")
    others = image_type[1:] if not isinstance(image_type, str) else ["PRIMARY"]
    derived.ImageType = ["DERIVED", *others]
    derived.ContentQualification = "RESEARCH"


def _as_written(time: datetime, source: Dataset) -> datetime:
    """Return the time in the zone that the source says its dates and times are in (PS3.3 C.12.1)."""
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    if time.tzinfo is None or len(offset) != len("+HHMM") or not offset[1:].isdecimal():
        return time
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return time.astimezone(timezone(timedelta(minutes=-minutes if offset.startswith("-") else minutes)))


def _set_times(derived: Dataset, series_started: datetime, now: datetime) -> None:
    for name, time in (("Series", series_started), ("InstanceCreation", now), ("Content", now)):
        setattr(derived, f"{name}Date", time.strftime("%Y%m%d"))
        setattr(derived, f"{name}Time", time.strftime("%H%M%S.%f"))


def _set_provenance(derived: Dataset, source: Dataset, derivation: Derivation, now: datetime) -> None:
    earlier = str(source.get("DerivationDescription") or "")
    derived.DerivationDescription = provenance.derivation_description(derivation, now, earlier)
    derived.SourceImageSequence = Sequence([provenance.source_image(source)])
    _append(derived, "DerivationCodeSequence", provenance.coded(provenance.SMOOTHING))
    _append(derived, "ReferencedSeriesSequence", provenance.referenced_series(source))
    _append(derived, "RelatedSeriesSequence", provenance.related_series(source))
    _append(derived, "ContributingEquipmentSequence", provenance.contributing_equipment(derivation, now))


def _append(derived: Dataset, keyword: str, item: Dataset) -> None:
    setattr(derived, keyword, Sequence([*(derived.get(keyword) or ()), item]))


def _keep_loss_history(derived: Dataset, source: Dataset) -> None:
    """PS3.3 C.7.6.1.1.5: once lossy, always lossy, also when the derived pixels are not compressed."""
    syntax = source.file_meta.TransferSyntaxUID if hasattr(source, "file_meta") else None
    if syntax in LOSSY_SYNTAXES and "LossyImageCompression" not in derived:
        derived.LossyImageCompression = "01"


def _set_pixels(derived: Dataset, stored: Stored) -> None:
    is_signed = int(derived.PixelRepresentation) == 1
    derived.add_new("PixelData", "OW", stored.astype("<i2" if is_signed else "<u2").tobytes())
    extremes = (("SmallestImagePixelValue", stored.min()), ("LargestImagePixelValue", stored.max()))
    for keyword, value in extremes:
        if keyword in derived:
            del derived[keyword]
            derived.add_new(keyword, "SS" if is_signed else "US", int(value))


def _as_file(derived: Dataset, derivation: Derivation) -> FileDataset:
    file_meta = FileMetaDataset()
    file_meta.FileMetaInformationVersion = b"\x00\x01"
    file_meta.MediaStorageSOPClassUID = derived.SOPClassUID
    file_meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    file_meta.ImplementationVersionName = implementation_version_name(derivation.node_version)
    file = FileDataset("", derived, b"\0" * 128, file_meta, is_implicit_VR=False, is_little_endian=True)
    # FileDataset takes its own encoding for the one of the inherited raw bytes; they are still in the source's.
    is_implicit, is_little_endian = derived.original_encoding
    file.set_original_encoding(is_implicit, is_little_endian, derived.original_character_set)
    return file
