"""The DICOM attributes of a simulated low-dose copy of a CT slice.

Patient, study, geometry, frame of reference and the exposure attributes stay as they are: exposure and CTDIvol tell
what the patient got, and no exposure was ever made at the simulated dose. What was done is told by Image Type,
Derivation Description, Contributing Equipment and Synthetic Data (0008,001C), which is YES because the noise never
came from a detector.
"""

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from iscl_node import __version__

_LONGEST_LO: Final = 64
_LONGEST_ST: Final = 1024
_LARGEST_IS: Final = 2**31 - 1
_STALE: Final = (
    "IconImageSequence",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "DataSetTrailingPadding",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
)
"""Attributes that describe or seal the source's pixels."""
_IMPOSSIBLE_HU: Final = -1500.0
"""At or below this no tissue, air or noise is meant, but the area outside the scanner's circle."""


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
        """The Derivation Description (0008,2111); at most 1024 characters."""
        text = f"Simulated low dose: {100 * self.dose:g}% of the source's dose, seed {self.seed}; {self.method}."
        return f"{text} Exposure attributes are the source's."[:_LONGEST_ST]

    def uid(self, source_uid: str) -> UID:
        """Derive a UID (PS3.5 B.2): the same for the same source and simulation, on any machine."""
        name = "\n".join(("iscl-node simulate", source_uid, repr(self.dose), str(self.seed), self.method))
        return UID(f"2.25.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], 'big')}")


def simulated(source: Dataset, hu_low: npt.NDArray[np.float32], simulation: Simulation, now: datetime) -> Dataset:
    """Make the low-dose copy of a slice.

    Parameters
    ----------
    source : Dataset
        The normal-dose CT slice with its pixels; it is not changed.
    hu_low : float32 array, shape (H, W)
        The slice with the inserted noise, in HU.
    simulation : Simulation
        How the noise was made.
    now : datetime
        The time written into the copy.

    Returns
    -------
    Dataset
        The copy, with file meta information for Explicit VR Little Endian. Padding is the source's.
    """
    copy = deepcopy(source)
    copy.remove_private_tags()
    _remove_stale(copy)
    _set_identity(copy, source, simulation)
    _set_times(copy, now)
    _set_provenance(copy, source, simulation, now)
    _set_pixels(copy, _stored(hu_low, source))
    copy.file_meta = _file_meta(copy)
    return copy


def _remove_stale(copy: Dataset) -> None:
    for keyword in _STALE:
        if keyword in copy:
            delattr(copy, keyword)
    for element in [e for e in copy if e.tag.group & 0xFF00 == 0x6000]:
        if (element.tag.group, 0x3000) not in copy:  # an overlay in the unused bits of the pixels: they are rewritten
            del copy[element.tag]


def _set_identity(copy: Dataset, source: Dataset, simulation: Simulation) -> None:
    copy.SOPInstanceUID = simulation.uid(source.SOPInstanceUID)
    copy.SeriesInstanceUID = simulation.uid(source.SeriesInstanceUID)
    text = str(source.get("SeriesDescription") or "")
    copy.SeriesDescription = (text[: _LONGEST_LO - len(simulation.suffix)] + simulation.suffix).strip()
    number = int(source.get("SeriesNumber") or 0) * 1000 + round(1000 * simulation.dose)
    copy.SeriesNumber = number if abs(number) <= _LARGEST_IS else round(1000 * simulation.dose)
    copy.ImageType = ["DERIVED", *list(source.get("ImageType") or ("ORIGINAL", "PRIMARY", "AXIAL"))[1:]]


def _set_times(copy: Dataset, now: datetime) -> None:
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(copy, f"{prefix}Date", now.strftime("%Y%m%d"))
        setattr(copy, f"{prefix}Time", now.strftime("%H%M%S.%f"))


def _set_provenance(copy: Dataset, source: Dataset, simulation: Simulation, now: datetime) -> None:
    copy.SyntheticData = "YES"
    copy.DerivationDescription = simulation.description
    _append(copy, "DerivationCodeSequence", _code(codes.DCM.PixelByPixelAddition))
    copy.SourceImageSequence = [_source_image(source)]
    copy.ReferencedSeriesSequence = [_referenced_series(source)]
    _append(copy, "ContributingEquipmentSequence", _equipment(simulation, now))


def _append(copy: Dataset, keyword: str, item: Dataset) -> None:
    setattr(copy, keyword, [*(copy.get(keyword) or []), item])


def _code(code: Code) -> Dataset:
    return _item(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _source_image(source: Dataset) -> Dataset:
    return _item(
        ReferencedSOPClassUID=source.SOPClassUID,
        ReferencedSOPInstanceUID=source.SOPInstanceUID,
        SpatialLocationsPreserved="YES",
        PurposeOfReferenceCodeSequence=[_code(codes.DCM.SourceImageForImageProcessingOperation)],
    )


def _referenced_series(source: Dataset) -> Dataset:
    instance = _item(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)
    return _item(SeriesInstanceUID=source.SeriesInstanceUID, ReferencedInstanceSequence=[instance])


def _equipment(simulation: Simulation, now: datetime) -> Dataset:
    return _item(
        PurposeOfReferenceCodeSequence=[_code(codes.DCM.ProcessingEquipment)],
        Manufacturer="ISCL Node developers",
        ManufacturerModelName="ISCL Node simulate",
        SoftwareVersions=__version__,
        ContributionDateTime=now.strftime("%Y%m%d%H%M%S.%f"),
        ContributionDescription=simulation.description,
    )


def _padding(source: Dataset, stored: npt.NDArray[Any], hu: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    padding = np.asarray(hu <= _IMPOSSIBLE_HU)
    value = source.get("PixelPaddingValue")
    if value is not None:
        limits = sorted((int(value), int(source.get("PixelPaddingRangeLimit", value))))
        padding |= (stored >= limits[0]) & (stored <= limits[1])
    return padding


def _stored(hu_low: npt.NDArray[np.float32], source: Dataset) -> npt.NDArray[Any]:
    """Stored values of the copy: rounded, clipped to the bits, the source's own where it holds padding."""
    before = source.pixel_array
    slope, intercept = float(source.get("RescaleSlope", 1)), float(source.get("RescaleIntercept", 0))
    signed, bits = bool(source.PixelRepresentation), int(source.BitsStored)
    lowest = -(2 ** (bits - 1)) if signed else 0
    after = np.clip(np.rint((hu_low - intercept) / slope), lowest, lowest + 2**bits - 1)
    value = source.get("PixelPaddingValue")
    if value is not None:
        after[after == int(value)] += 1 if int(value) < lowest + 2**bits - 1 else -1  # noise is no padding
    padding = _padding(source, before, before * slope + intercept)
    return np.where(padding, before, after).astype("<i2" if signed else "<u2")


def _set_pixels(copy: Dataset, stored: npt.NDArray[Any]) -> None:
    copy.PixelData = stored.tobytes()
    copy["PixelData"].VR = "OW"


def _file_meta(copy: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = copy.SOPClassUID
    meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta
