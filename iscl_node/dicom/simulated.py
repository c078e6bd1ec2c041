"""The DICOM attributes of a simulated low-dose copy of a CT slice.

Patient, study, geometry, frame of reference and the exposure attributes stay as they are: exposure and CTDIvol tell
what the patient got, and no exposure was ever made at the simulated dose. What was done is told by Image Type,
Derivation Description, Contributing Equipment and Synthetic Data (0008,001C), which is YES because the noise never
came from a detector.
"""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from iscl_node import __version__
from iscl_node.dicom import provenance
from iscl_node.dicom.derived import IS_MAX, LOSSY_SYNTAXES, series_description
from iscl_node.dicom.inherited import inherited
from iscl_node.dicom.uids import IMPLEMENTATION_CLASS_UID, implementation_version_name
from iscl_node.dicom.volume import Mask, Slice, Stored, padding_mask, stored_values, to_hu, to_stored

ADDITION: Final = ("113042", "DCM", "Pixel by pixel addition")
"""CID 7203: the noise is added to the slice."""
SIMULATOR_MODEL_NAME: Final = "ISCL Node simulate"
"""Not the node's own model name: the node must denoise simulated slices, and it passes over its own output."""

_ST_MAX_CHARACTERS: Final = 1024
_NUMBERS_PER_SERIES: Final = 1000
_STALE: Final = ("SmallestImagePixelValue", "LargestImagePixelValue", "InstanceCreatorUID")
_OUTSIDE_HU: Final = -1500.0
"""At or below this neither tissue nor noisy air is meant, but the area outside the scanner's circle: some scanners
give it no Pixel Padding Value."""


@dataclass(frozen=True)
class Simulation:
    """What, beside the source, decides the pixels and the identity of a simulated copy.

    Parameters
    ----------
    dose : float
        Fraction of the source's dose.
    seed : int
        Seed of the noise.
    method : str
        The algorithm and its constants in words, for Derivation Description.
    """

    dose: float
    seed: int
    method: str

    @property
    def suffix(self) -> str:
        """Ends the Series Description, for example `` SIM 25%``."""
        return f" SIM {100 * self.dose:g}%"

    @property
    def description(self) -> str:
        """The Derivation Description (0008,2111), at most 1024 characters."""
        text = f"Simulated low dose: {100 * self.dose:g}% of the source's dose, seed {self.seed}; {self.method}."
        return f"{text} Exposure attributes are the source's."[:_ST_MAX_CHARACTERS]

    def uid(self, source_uid: str) -> UID:
        """Return the UID (PS3.5 B.2) of what becomes of a source: the same on any machine and at any time."""
        name = "\n".join(("iscl-node simulate", source_uid, repr(float(self.dose)), str(self.seed), self.method))
        digest = bytearray(hashlib.sha256(name.encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # version 8 and variant of RFC 9562, as in uids.py
        digest[8] = digest[8] & 0x3F | 0x80
        return UID(f"2.25.{uuid.UUID(bytes=bytes(digest)).int}")


def simulated(source: Dataset, hu_low: Slice, simulation: Simulation, now: datetime) -> FileDataset:
    """Make the low-dose copy of a slice.

    Parameters
    ----------
    source : Dataset
        The normal-dose CT slice with its pixels, native or compressed; it is not changed.
    hu_low : float32 array, shape (H, W)
        The slice with the inserted noise, in HU.
    simulation : Simulation
        How the noise was made.
    now : datetime
        The time written into the copy, as the source's Timezone Offset From UTC says.

    Returns
    -------
    FileDataset
        With file meta information, native Explicit VR Little Endian. Padding is the source's.

    Raises
    ------
    QuarantineSeriesError
        As ``volume.stored_values`` and ``volume.to_stored``.
    """
    stored = to_stored(hu_low, source, stored_values(source), _outside(source))
    written = _as_written(now, source)
    copy = inherited(source)
    for keyword in _STALE:
        if keyword in copy:
            delattr(copy, keyword)
    _set_identity(copy, source, simulation)
    _set_times(copy, written)
    _set_provenance(copy, source, simulation, written)
    _set_pixels(copy, source, stored)
    return _as_file(copy)


def _outside(source: Dataset) -> Mask:
    return padding_mask(source) | (to_hu(source) <= _OUTSIDE_HU)


def _as_written(now: datetime, source: Dataset) -> datetime:
    """Return the time in the zone that the source says its dates and times are in (PS3.3 C.12.1)."""
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    if now.tzinfo is None or len(offset) != len("+HHMM") or not offset[1:].isdecimal():
        return now
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return now.astimezone(timezone(timedelta(minutes=-minutes if offset.startswith("-") else minutes)))


def _set_identity(copy: Dataset, source: Dataset, simulation: Simulation) -> None:
    copy.SOPInstanceUID = simulation.uid(source.SOPInstanceUID)
    copy.SeriesInstanceUID = simulation.uid(source.SeriesInstanceUID)
    copy.SeriesDescription = series_description(source, simulation.suffix)
    copy.SeriesNumber = _series_number(source, simulation)
    image_type = source.get("ImageType") or ("ORIGINAL", "PRIMARY", "AXIAL")
    copy.ImageType = ["DERIVED", *(["PRIMARY"] if isinstance(image_type, str) else image_type[1:])]


def _series_number(source: Dataset, simulation: Simulation) -> int:
    """A thousand times the source's number and the dose in per mille; only the latter where there is no room."""
    number = int(source.get("SeriesNumber") or 0)
    own = round(1000 * simulation.dose)
    has_room = 0 <= number <= (IS_MAX - own) // _NUMBERS_PER_SERIES
    return number * _NUMBERS_PER_SERIES + own if has_room else own


def _set_times(copy: Dataset, now: datetime) -> None:
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(copy, f"{prefix}Date", now.strftime("%Y%m%d"))
        setattr(copy, f"{prefix}Time", now.strftime("%H%M%S.%f"))


def _set_provenance(copy: Dataset, source: Dataset, simulation: Simulation, now: datetime) -> None:
    copy.SyntheticData = "YES"
    copy.ContentQualification = "RESEARCH"
    copy.DerivationDescription = simulation.description
    copy.SourceImageSequence = Sequence([provenance.source_image(source)])
    _append(copy, "DerivationCodeSequence", provenance.coded(ADDITION))
    _append(copy, "ReferencedSeriesSequence", provenance.referenced_series(source))
    _append(copy, "RelatedSeriesSequence", provenance.related_series(source))
    _append(copy, "ContributingEquipmentSequence", _equipment(simulation, now))


def _append(copy: Dataset, keyword: str, item: Dataset) -> None:
    setattr(copy, keyword, Sequence([*(copy.get(keyword) or ()), item]))


def _equipment(simulation: Simulation, now: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([provenance.coded(provenance.PROCESSING_EQUIPMENT)])
    item.Manufacturer = provenance.NODE_MANUFACTURER
    item.ManufacturerModelName = SIMULATOR_MODEL_NAME
    item.SoftwareVersions = __version__
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = f"Noise of {100 * simulation.dose:g}% of the dose inserted. Research software."
    return item


def _set_pixels(copy: Dataset, source: Dataset, stored: Stored) -> None:
    is_signed = int(copy.PixelRepresentation) == 1
    copy.add_new("PixelData", "OW", stored.astype("<i2" if is_signed else "<u2").tobytes())
    syntax = source.file_meta.TransferSyntaxUID if hasattr(source, "file_meta") else None
    if syntax in LOSSY_SYNTAXES and "LossyImageCompression" not in copy:
        copy.LossyImageCompression = "01"  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)


def _as_file(copy: Dataset) -> FileDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = copy.SOPClassUID
    meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = implementation_version_name(__version__)
    file = FileDataset("", copy, b"\0" * 128, meta, is_implicit_VR=False, is_little_endian=True)
    # FileDataset takes its own encoding for the one of the inherited raw bytes; they are still in the source's.
    is_implicit, is_little_endian = copy.original_encoding
    file.set_original_encoding(is_implicit, is_little_endian, copy.original_character_set)
    return file
