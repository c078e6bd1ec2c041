"""Builds the derived CT instance: the source with new pixels, a new identity, and the story of how it came to be.

What is not named here is kept byte for byte: patient, study, frame of reference, geometry, acquisition, rescale,
window. The equipment stays the scanner's (PS3.3 C.7.5.1); the node is named as a contributor.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Final

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset

from iscl_node.dicom import provenance
from iscl_node.dicom.deriving.enhanced import StoredFrames, stored_frames, tell_by_frame
from iscl_node.dicom.deriving.inherited import inherited
from iscl_node.dicom.deriving.writing import (
    append_item,
    as_file,
    as_written,
    derived_image_type,
    keep_loss_history,
    name_source,
    series_description,
    series_number,
    set_pixels,
    set_series_description,
    set_time_zone,
    set_times,
)
from iscl_node.dicom.reading.frames import is_multiframe
from iscl_node.dicom.reading.volume import Slice, Stored, padding_mask, stored_values, to_stored
from iscl_node.dicom.uids import OWN_NUMBERS, SERIES, derivation_number, derived_uid, device_uid, instance_uid
from iscl_node.domain import Derivation
from iscl_node.errors import OutsideBytesError, QuarantineSeriesError, outside_bytes

FIRST_NUMBER: Final = 500
"""A source series 3 becomes 3500 to 3749, depending on its UID, the model, the profile and the strength."""


def derive(
    source: Dataset, hu: Slice | Iterable[Slice], derivation: Derivation, series_started: datetime, now: datetime
) -> FileDataset:
    """Build the derived instance of one instance, after the attribute table of the project's DICOM specification.

    Parameters
    ----------
    source : Dataset
        The source instance with its pixels, native or compressed; it is not changed.
    hu : float32 array, shape (H, W), or iterable of these
        The processed slice in Hounsfield units, or the slices of all ``frames.frames``; of a CT Image there is one.
    derivation : Derivation
        How it was processed.
    series_started : datetime
        When work on the derived series started, the same for all its instances.
    now : datetime
        When this instance is made. Both times are written as the source's Timezone Offset From UTC says; without one
        in the site's time zone; without that as they are, so they should then be local times.

    Returns
    -------
    FileDataset
        With file meta information, native Explicit VR Little Endian, ready for ``encode``.

    Raises
    ------
    QuarantineSeriesError
        As ``volume.stored_values`` and ``volume.to_stored``.
    """
    stored = _stored(source, hu)
    derived = inherited(source, derivation.site.keep_private)
    _set_identity(derived, source, derivation)
    time_zone = derivation.site.time_zone
    written = as_written(now, source, time_zone)
    set_times(derived, as_written(series_started, source, time_zone), "Series")
    set_times(derived, written, "InstanceCreation", "Content")
    set_time_zone(derived, source, written, time_zone)
    _set_provenance(derived, source, derivation, written)
    keep_loss_history(derived, source)
    if is_multiframe(source):
        tell_by_frame(derived, source)
    set_pixels(derived, stored)
    return as_file(derived, derivation.node_version, derivation.site.ae_title)


def _stored(source: Dataset, hu: Slice | Iterable[Slice]) -> Stored | StoredFrames:
    slices = (hu,) if isinstance(hu, np.ndarray) and hu.ndim == 2 else hu
    if is_multiframe(source):
        return stored_frames(source, slices)
    (only,) = slices
    return to_stored(only, source, stored_values(source), padding_mask(source))


@dataclass(frozen=True)
class DerivedSeries:
    """What names a derived series."""

    series_instance_uid: str
    number: int
    description: str


def derived_series(source: Dataset, derivation: Derivation) -> DerivedSeries:
    """Return what will name the derived series, from any instance of the source."""
    uid = derived_uid(source.SeriesInstanceUID, derivation, SERIES)
    return DerivedSeries(str(uid), _series_number(source, derivation), series_description(source, derivation.suffix))


def encode(dataset: Dataset) -> bytes:
    """Return the DICOM File Format stream (PS3.10 section 7) of an instance.

    Raises
    ------
    QuarantineSeriesError
        When a value that was inherited cannot be written.
    """
    stream = BytesIO()
    try:
        with outside_bytes():  # values that are not what their VR demands
            dcmwrite(stream, dataset, enforce_file_format=True)
    except OutsideBytesError as error:
        raise QuarantineSeriesError(f"the derived instance cannot be written ({error})") from error
    return stream.getvalue()


def _set_identity(derived: Dataset, source: Dataset, derivation: Derivation) -> None:
    derived.SOPInstanceUID = instance_uid(source.SeriesInstanceUID, source.SOPInstanceUID, derivation)
    derived.SeriesInstanceUID = derived_uid(source.SeriesInstanceUID, derivation, SERIES)
    derived.InstanceCreatorUID = device_uid(derivation)
    derived.SeriesNumber = _series_number(source, derivation)
    set_series_description(derived, source, derivation.suffix)
    derived.ImageType = derived_image_type(source)
    derived.ContentQualification = provenance.content_qualification(source, derivation.site)


def _series_number(source: Dataset, derivation: Derivation) -> int:
    own = derivation_number(source.SeriesInstanceUID, derivation, OWN_NUMBERS)
    return series_number(source, FIRST_NUMBER + own)


def _set_provenance(derived: Dataset, source: Dataset, derivation: Derivation, now: datetime) -> None:
    earlier = str(source.get("DerivationDescription") or "")
    derived.DerivationDescription = provenance.derivation_description(derivation, now, earlier)
    name_source(derived, source)
    append_item(derived, "DerivationCodeSequence", provenance.coded(provenance.SMOOTHING))
    append_item(derived, "ContributingEquipmentSequence", provenance.contributing_equipment(derivation, now))
