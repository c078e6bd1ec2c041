"""The noise that was taken out of a series, as Parametric Maps (PS3.3 A.75): source minus derived, in HU.

A map holds as many slices as fit 64 MiB (64 slices of 512 x 512), so that a series of any length is made in bounded
memory and archived in objects of bearable size. highdicom wants the slices of a map to share orientation and spacing
and to lie at different positions; where the next slice does not, the next map begins. So reformats, a tilted gantry,
unequal distances and several acquisitions in one series all have their maps. A slice whose position, orientation or
pixel spacing is not known has none: a Parametric Map cannot be without them (PS3.3 C.7.6.16.2.3 and the following).
"""

from collections.abc import Sequence as Items
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code

from iscl_node.dicom import provenance
from iscl_node.dicom.deriving.writing import keep_loss_history
from iscl_node.dicom.evidence.objects import (
    NOISE_MAP,
    equipment_for_highdicom,
    finished,
    frame_number,
    identity_for_highdicom,
    instance_uid,
    series_uid,
)
from iscl_node.dicom.reading.values import numbers
from iscl_node.dicom.uids import hashed_uid
from iscl_node.domain import CT_IMAGE_STORAGE, Derivation
from iscl_node.errors import QuarantineSeriesError

if TYPE_CHECKING:  # highdicom takes a second to import
    from highdicom.pm import RealWorldValueMapping

RemovedNoise = npt.NDArray[np.float32]

MAX_PIXELS: Final = 64 * 512 * 512
"""Of one map: 64 MiB as float32, of which highdicom holds about three copies while it builds."""
WINDOW_HU: Final = (0.0, 100.0)
"""Center and width for viewing; the same for all series, so that they can be compared by eye."""

SUBTRACTION: Final = Code("113062", "DCM", "Pixel by pixel subtraction")
"""CID 7203."""
ATTENUATION: Final = Code("112031", "DCM", "Attenuation Coefficient")
HOUNSFIELD_UNIT: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")

_SHARED: Final = ("ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID")
_GEOMETRY: Final = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
"""Keywords and how many numbers they hold."""
_LOSS: Final = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")


def map_groups(views: Items[Dataset]) -> list[list[int]]:
    """Decide which slices share a map.

    Parameters
    ----------
    views : sequence of Dataset
        The source images in the order of their positions; their pixels are not looked at.

    Returns
    -------
    list of list of int
        Indices of the slices of each map, in their order; slices without a known place are in none.
    """
    groups: list[list[int]] = []
    for index, view in enumerate(views):
        if not _has_place(view):
            continue
        if groups and _fits(view, [views[other] for other in groups[-1]]):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def noise_map_uid(views: Items[Dataset], derivation: Derivation) -> str:
    """Return the SOP Instance UID that the map of these slices has."""
    return instance_uid(views, NOISE_MAP, derivation)


def noise_map(
    views: Items[Dataset], removed_hu: RemovedNoise, derivation: Derivation, started: datetime, number: int
) -> FileDataset:
    """Build the map of one group of slices.

    Parameters
    ----------
    views : sequence of Dataset
        The source images of a group of :func:`map_groups`, S of them.
    removed_hu : float32 array, shape (S, H, W)
        Source minus derived in HU, finite, in the order of the views.
    derivation : Derivation
        How the source was processed.
    started : datetime
        When work on the derived series started; see :func:`evidence.finished`.
    number : int
        Instance Number, 1 or more.

    Returns
    -------
    FileDataset
        Float Pixel Data as given, in the order along the normal, native Explicit VR Little Endian.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap

    made = ParametricMap(
        source_images=[_stub(view, index) for index, view in enumerate(views)],
        pixel_array=removed_hu,
        series_instance_uid=series_uid(views[0], NOISE_MAP, derivation),
        series_number=1,
        sop_instance_uid=noise_map_uid(views, derivation),
        instance_number=number,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(removed_hu)],
        voi_lut_transformations=[VOILUTTransformation(window_center=WINDOW_HU[0], window_width=WINDOW_HU[1])],
        content_label="REMOVED_NOISE",
        content_description="Removed noise: source minus derived image, HU",
        derived_pixel_contrast="SUBTRACTION",
        derivation=SUBTRACTION,
        **equipment_for_highdicom(derivation),
    )
    _compute_dimension_uid(made)
    _name_sources(made, views)
    _complete(made, views[0])
    return finished(made, views[0], NOISE_MAP, derivation, started)


def _fits(view: Dataset, group: Items[Dataset]) -> bool:
    first = group[0]
    if (len(group) + 1) * int(first.Rows) * int(first.Columns) > MAX_PIXELS:
        return False
    if any(view.get(keyword) != first.get(keyword) for keyword in _SHARED):
        return False
    return _position(view) not in {_position(other) for other in group}


def _has_place(view: Dataset) -> bool:
    return all(numbers(view, keyword, count) for keyword, count in _GEOMETRY.items())


def _position(view: Dataset) -> float:
    """Position along the normal as highdicom computes it, in mm, rounded to what positions are written with."""
    orientation = numbers(view, "ImageOrientationPatient", 6) or [0.0] * 6
    return round(float(np.dot(np.cross(orientation[:3], orientation[3:]), view.ImagePositionPatient)), 4)


def _stub(view: Dataset, index: int) -> Dataset:
    """What highdicom needs of a source image, and nothing that it may refuse.

    It is a CT Image also where the view is a frame of an Enhanced CT, and its UID is its index.
    """
    thickness = numbers(view, "SliceThickness", 1)
    # A map must have a frame of reference; one of its own says that the source's is not known.
    unknown = str(hashed_uid("iscl-node frame of reference", str(view.SeriesInstanceUID)))
    attributes: dict[str, Any] = {
        **identity_for_highdicom(view),
        "SOPClassUID": CT_IMAGE_STORAGE,
        "SOPInstanceUID": str(index),
        "FrameOfReferenceUID": view.get("FrameOfReferenceUID") or unknown,
        "Rows": view.Rows,
        "Columns": view.Columns,
        "SliceThickness": thickness[0] if thickness else None,
        "LossyImageCompression": view.get("LossyImageCompression") or "00",
        **{keyword: view[keyword].value for keyword in (*_GEOMETRY, *_LOSS) if keyword in view},
    }
    stub = Dataset()
    for keyword, value in attributes.items():
        try:
            setattr(stub, keyword, value)
        except (OverflowError, TypeError, ValueError) as error:
            raise QuarantineSeriesError(
                f"{keyword} is not what a noise map could have ({type(error).__name__})"
            ) from error
    return stub


def _complete(made: Dataset, view: Dataset) -> None:
    """Write what highdicom does not: a loss that only the transfer syntax shows, and what is not known."""
    if not view.get("LossyImageCompression"):
        del made.LossyImageCompression
        keep_loss_history(made, view)
        made.LossyImageCompression = made.get("LossyImageCompression") or "00"
    if not view.get("BodyPartExamined"):
        made.Laterality = ""  # type 2C: unknown, unless the source says it (PS3.3 C.7.3.1)


def _mapping(removed_hu: RemovedNoise) -> "RealWorldValueMapping":
    """Stored values are HU as they are (PS3.3 C.7.6.16.2.11)."""
    from highdicom.pm import RealWorldValueMapping

    return RealWorldValueMapping(
        lut_label="HU",
        lut_explanation="Removed noise in Hounsfield units",
        unit=HOUNSFIELD_UNIT,
        value_range=(float(removed_hu.min()), float(removed_hu.max())),
        slope=1,
        intercept=0,
        quantity_definition=ATTENUATION,
    )


def _compute_dimension_uid(made: Dataset) -> None:
    """Replace the Dimension Organization UID that highdicom draws, or no two maps of one source would be equal."""
    uid = hashed_uid("iscl-node dimensions", made.SOPInstanceUID)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _name_sources(made: Dataset, views: Items[Dataset]) -> None:
    """Refer to the sources themselves instead of their stubs, each frame to its image or to its frame of one."""
    for item in made.PerFrameFunctionalGroupsSequence:
        reference = item.DerivationImageSequence[0].SourceImageSequence[0]
        view = views[int(reference.ReferencedSOPInstanceUID)]
        reference.update(provenance.source_image(view))
        if (frame := frame_number(view)) is not None:
            reference.ReferencedFrameNumber = frame
    instances = {str(view.SOPInstanceUID): provenance.referenced_instance(view) for view in views}
    series = Dataset()
    series.SeriesInstanceUID = views[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = Sequence(instances.values())
    made.SourceImageSequence = Sequence(instances.values())
    made.ReferencedSeriesSequence = Sequence([series])
    made.RelatedSeriesSequence = Sequence([provenance.related_series(views[0])])
