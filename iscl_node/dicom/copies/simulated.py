"""The DICOM attributes of a simulated low-dose copy of a CT slice.

Patient, study, geometry, frame of reference and the exposure attributes stay as they are: exposure and CTDIvol say
what the patient got, and no exposure was ever made at the simulated dose. What was done is in Image Type,
Derivation Description, Contributing Equipment and Synthetic Data (0008,001C), which is YES because the noise never
came from a detector.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from iscl_node import __version__
from iscl_node.dicom import provenance
from iscl_node.dicom.deriving.inherited import inherited
from iscl_node.dicom.deriving.writing import (
    append_item,
    as_file,
    as_written,
    derived_image_type,
    keep_loss_history,
    name_source,
    series_number,
    set_pixels,
    set_series_description,
    set_times,
)
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.reading.volume import Mask, Slice, padding_mask, stored_values, to_hu, to_stored
from iscl_node.dicom.uids import hashed_uid
from iscl_node.errors import QuarantineSeriesError

ADDITION: Final = ("113042", "DCM", "Pixel by pixel addition")
"""CID 7203: the noise is added to the slice."""
SIMULATOR_MODEL_NAME: Final = "ISCL Node simulate"
"""Not the node's own model name: the node must denoise simulated slices, and it passes over its own output."""

_ST_MAX_CHARACTERS: Final = 1024
_STALE: Final = ("SmallestImagePixelValue", "LargestImagePixelValue", "InstanceCreatorUID")
_OUTSIDE_HU: Final = -1500.0
"""At or below this neither tissue nor noisy air is meant, but the area outside the scanner's circle: some scanners
give it no Pixel Padding Value."""

_SQUARE_TOLERANCE: Final = 1e-3
"""By how much, relatively, the pixel spacings of a slice with square pixels may differ."""
_LEAST_AXIAL_COSINE: Final = float(np.cos(np.pi / 4))


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
        settings = (repr(float(self.dose)), str(self.seed), self.method)
        return hashed_uid("iscl-node simulate", source_uid, *settings)


def projectable_spacing_mm(dataset: Dataset) -> float:
    """Return the distance of pixel centres of a slice that can be projected as the scanner's rays did.

    Parameters
    ----------
    dataset : Dataset
        A CT slice; its pixels are not looked at. Without Image Orientation it counts as axial.

    Returns
    -------
    float
        The distance along rows and columns, in mm.

    Raises
    ------
    QuarantineSeriesError
        When Pixel Spacing is absent, not above 0 or not square, or the slice is not axial.
    """
    spacing = numbers(dataset, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        raise QuarantineSeriesError("a slice without usable Pixel Spacing cannot be projected")
    if max(spacing) - min(spacing) > _SQUARE_TOLERANCE * max(spacing):
        raise QuarantineSeriesError(
            f"pixels of {spacing[0]:g} by {spacing[1]:g} mm are not square: cannot be projected"
        )
    if not _is_axial(dataset):
        raise QuarantineSeriesError("a coronal or sagittal reformat cannot be projected like an axial slice")
    return spacing[0]


def _is_axial(dataset: Dataset) -> bool:
    """Whether the normal is nearer than 45 degrees to the patient's long axis, as with any tilt of a gantry."""
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    if orientation is None:
        return True
    normal = np.cross(orientation[:3], orientation[3:])
    return bool(abs(normal[2]) >= _LEAST_AXIAL_COSINE * np.linalg.norm(normal))


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
    written = as_written(now, source)
    copy = inherited(source)
    for keyword in _STALE:
        if keyword in copy:
            delattr(copy, keyword)
    _set_identity(copy, source, simulation)
    set_times(copy, written, "InstanceCreation", "Content", "Series")
    _set_provenance(copy, source, simulation, written)
    keep_loss_history(copy, source)
    set_pixels(copy, stored)
    return as_file(copy, __version__)


def _outside(source: Dataset) -> Mask:
    return padding_mask(source) | (to_hu(source) <= _OUTSIDE_HU)


def _set_identity(copy: Dataset, source: Dataset, simulation: Simulation) -> None:
    copy.SOPInstanceUID = simulation.uid(source.SOPInstanceUID)
    copy.SeriesInstanceUID = simulation.uid(source.SeriesInstanceUID)
    set_series_description(copy, source, simulation.suffix)
    # The dose in per mille behind the source's number.
    copy.SeriesNumber = series_number(source, round(1000 * simulation.dose))
    copy.ImageType = derived_image_type(source)


def _set_provenance(copy: Dataset, source: Dataset, simulation: Simulation, now: datetime) -> None:
    copy.SyntheticData = "YES"
    copy.ContentQualification = "RESEARCH"
    copy.DerivationDescription = simulation.description
    name_source(copy, source)
    append_item(copy, "DerivationCodeSequence", provenance.coded(ADDITION))
    append_item(copy, "ContributingEquipmentSequence", _equipment(simulation, now))


def _equipment(simulation: Simulation, now: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([provenance.coded(provenance.PROCESSING_EQUIPMENT)])
    item.Manufacturer = provenance.NODE_MANUFACTURER
    item.ManufacturerModelName = SIMULATOR_MODEL_NAME
    item.SoftwareVersions = __version__
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = f"Noise of {100 * simulation.dose:g}% of the dose inserted. Research software."
    return item
