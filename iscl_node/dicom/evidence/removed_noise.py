"""The noise that was taken out of a slice, as a plain CT image: for viewers that show no Parametric Map.

It is the derived image with other pixels: source minus derived, in HU. It must not be taken for anatomy, so its window
is one of noise, Image Type says DERIVED and REMOVED_NOISE, and so does the description.
"""

from datetime import datetime
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from iscl_node.dicom import provenance
from iscl_node.dicom.deriving.writing import (
    append_item,
    as_file,
    as_written,
    derived_image_type,
    series_number,
    set_pixels,
    set_series_description,
    set_times,
)
from iscl_node.dicom.evidence.noise_map import SUBTRACTION, WINDOW_HU
from iscl_node.dicom.evidence.objects import NOISE_MAP, NUMBERS_PER_KIND, Kind, instance_uid, series_uid
from iscl_node.dicom.reading.volume import Slice
from iscl_node.dicom.uids import derivation_number
from iscl_node.domain import Derivation

REMOVED_NOISE: Final = Kind("removed noise", " removed noise", NOISE_MAP.first_number)
"""Made in place of noise maps, so it has their numbers."""
SLOPE_HU: Final = 0.1
_LARGEST: Final = 32767
_OF_OTHER_PIXELS: Final = (
    *("PixelData", "PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue"),
    *("WindowCenterWidthExplanation", "VOILUTSequence", "VOILUTFunction", "ModalityLUTSequence"),
    *("RealWorldValueMappingSequence", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_SUBTRACTION: Final = (SUBTRACTION.value, SUBTRACTION.scheme_designator, SUBTRACTION.meaning)
_TYPE: Final = "REMOVED_NOISE"
_DESCRIPTION: Final = "; pixels: source minus derived image, HU"
_LONGEST: Final = 1024
"""Of Derivation Description (VR ST)."""


def removed_noise(
    source: Dataset, derived: Dataset, removed_hu: Slice, derivation: Derivation, started: datetime
) -> FileDataset:
    """Build the image of what was removed from a CT Image.

    Parameters
    ----------
    source, derived : Dataset
        The source and the derived instance, each of one frame; their pixels are not looked at.
    removed_hu : float32 array, shape (H, W)
        Source minus derived in HU, finite.
    derivation : Derivation
        How the source was processed.
    started : datetime
        When work on the derived series started; see :func:`objects.finished`.

    Returns
    -------
    FileDataset
        In tenths of HU, native Explicit VR Little Endian.
    """
    left_out = {Tag(keyword) for keyword in _OF_OTHER_PIXELS}
    made = Dataset({tag: derived.get_item(tag) for tag in derived.keys() if tag not in left_out})  # noqa: SIM118
    is_implicit, is_little_endian = derived.original_encoding
    made.set_original_encoding(is_implicit, is_little_endian, derived.original_character_set)
    made.SOPInstanceUID = instance_uid([source], REMOVED_NOISE, derivation)
    made.SeriesInstanceUID = series_uid(source, REMOVED_NOISE, derivation)
    own = derivation_number(str(source.SeriesInstanceUID), derivation, NUMBERS_PER_KIND)
    made.SeriesNumber = series_number(source, REMOVED_NOISE.first_number + own)
    set_series_description(made, source, derivation.suffix + REMOVED_NOISE.suffix)
    set_times(made, as_written(started, source, derivation.site.time_zone), "InstanceCreation", "Content")
    made.ImageType = [*derived_image_type(source)[:3], _TYPE]
    made.DerivationDescription = str(made.DerivationDescription)[: _LONGEST - len(_DESCRIPTION)] + _DESCRIPTION
    append_item(
        made,
        "DerivationCodeSequence",
        provenance.coded(_SUBTRACTION),
    )
    _set_hu(made, removed_hu)
    return as_file(made, derivation.node_version, derivation.site.ae_title)


def _set_hu(made: Dataset, removed_hu: Slice) -> None:
    made.PixelRepresentation = 1
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, SLOPE_HU, "HU"
    made.WindowCenter, made.WindowWidth = WINDOW_HU
    set_pixels(made, np.clip(np.rint(removed_hu / SLOPE_HU), -_LARGEST, _LARGEST).astype(np.int32))
