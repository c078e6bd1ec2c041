"""What a derived multi-frame CT has beyond a derived CT Image (PS3.3 A.38 and A.70).

The General Image Module, which holds a CT Image's derivation at the top level, is not part of these objects: they hold
it frame by frame in the Derivation Image functional group (C.7.6.16.2.6), and name their sources once more as evidence
(C.8.15.2). All other functional groups stay as they are: also Image Frame Conversion Source (C.7.6.16.2.25.3), which
names the CT Image that a legacy frame was converted from. The derivation is a further step behind that conversion.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from iscl_node.dicom import provenance
from iscl_node.dicom.deriving.writing import append_item
from iscl_node.dicom.reading.frames import UNASSIGNED, frames
from iscl_node.dicom.reading.volume import Slice, padding_mask, stored_values, to_stored
from iscl_node.errors import QuarantineSeriesError

StoredFrames = npt.NDArray[np.int16] | npt.NDArray[np.uint16]

UNCALCULATED: Final = "NONE"
FILTERED: Final = "FILTERED"
"""Derived Pixel Contrast (value 4 of Image and Frame Type): of an original image, which has none, and of a filtered one
(PS3.3 C.8.16.1.4 and C.8.15.2.1.1.4)."""

MIXED: Final = "MIXED"
"""The image's value where those of its frames differ (PS3.3 C.8.16.1)."""

_OF_THE_WHOLE_IMAGE: Final = ("SourceImageSequence", "DerivationCodeSequence", "DerivationDescription")
_OLD_EXTREMES: Final = ("SmallestImagePixelValue", "LargestImagePixelValue")


def stored_frames(source: Dataset, slices: Iterable[Slice]) -> StoredFrames:
    """Return the stored values of processed frames, as ``volume.to_stored`` does it for each.

    Parameters
    ----------
    source : Dataset
        A multi-frame CT.
    slices : iterable of float32 arrays, shape (H, W)
        The processed frames in Hounsfield units, in their order; each is let go before the next is taken.

    Returns
    -------
    int16 or uint16 array, shape (F, H, W)
        Stored values.

    Raises
    ------
    QuarantineSeriesError
        When there is not one slice for each frame, and as ``volume.stored_values`` and ``volume.to_stored``.
    """
    views, given = frames(source), iter(slices)
    kind = "<i2" if int(source.PixelRepresentation) == 1 else "<u2"
    stored = np.empty((len(views), int(source.Rows), int(source.Columns)), dtype=kind)
    for index, view in enumerate(views):
        hu = next(given, None)
        if hu is None:
            raise QuarantineSeriesError(f"{len(views)} frames, but {index} processed ones")
        stored[index] = to_stored(hu, view, stored_values(view), padding_mask(view))
    if next(given, None) is not None:
        raise QuarantineSeriesError(f"{len(views)} frames, but more processed ones")
    return stored


def tell_by_frame(derived: Dataset, source: Dataset) -> None:
    """Move what ``derived.derive`` wrote for the whole image to its place in a multi-frame CT.

    Parameters
    ----------
    derived : Dataset
        With the source's functional groups and the node's derivation at the top level; it is changed.
    source : Dataset
        The multi-frame CT that it is derived from.
    """
    _set_frame_types(derived)
    _set_derivation_images(derived, source)
    append_item(derived, "SourceImageEvidenceSequence", _evidence(source))
    for keyword in _OF_THE_WHOLE_IMAGE:
        del derived[keyword]
        if keyword in source:
            derived[keyword] = deepcopy(source[keyword])
    for unassigned in (
        item for group in _groups(derived) for keyword in UNASSIGNED for item in group.get(keyword) or ()
    ):
        _delete(unassigned, _OLD_EXTREMES)


def _groups(derived: Dataset) -> Iterator[Dataset]:
    """Yield the shared functional groups and those of each frame."""
    yield from derived.get("SharedFunctionalGroupsSequence") or ()
    yield from derived.PerFrameFunctionalGroupsSequence


def _set_frame_types(derived: Dataset) -> None:
    """PS3.3 C.8.16.1: every frame is DERIVED now, and the image's type sums up its frames'."""
    frame_types = [
        frame_type for group in _groups(derived) for frame_type in group.get("CTImageFrameTypeSequence") or ()
    ]
    for each in frame_types:
        each.FrameType = derived_frame_type(each.get("FrameType"))
    contrasts = {each.FrameType[3] for each in frame_types if len(each.FrameType) > 3}
    image_type = derived_frame_type(derived.ImageType)
    if len(image_type) > 3 and contrasts:
        image_type[3] = contrasts.pop() if len(contrasts) == 1 else MIXED
    derived.ImageType = image_type


def derived_frame_type(frame_type: str | Iterable[str] | None) -> list[str]:
    """Return the Frame Type of a frame with new pixels; of an image the Image Type.

    Value 4 says how the contrast was made, and only an original frame may have made none.
    """
    given = (frame_type,) if isinstance(frame_type, str) else frame_type
    values = list(given or ("ORIGINAL", "PRIMARY", "VOLUME", UNCALCULATED))
    values[0] = "DERIVED"
    return values[:3] + [FILTERED if value == UNCALCULATED else value for value in values[3:4]] + values[4:]


def _set_derivation_images(derived: Dataset, source: Dataset) -> None:
    """Put the node's step behind the older ones, which may be shared, of each frame."""
    shared = _taken(derived, "DerivationImageSequence")
    for index, groups in enumerate(derived.PerFrameFunctionalGroupsSequence):
        earlier = groups.get("DerivationImageSequence") or deepcopy(shared)
        groups.DerivationImageSequence = Sequence([*earlier, _derivation_image(derived, source, index + 1)])


def _taken(derived: Dataset, keyword: str) -> list[Dataset]:
    """Take a group out of the shared ones: no group may be both shared and a frame's own (PS3.3 C.7.6.16.1.1)."""
    items: list[Dataset] = []
    for shared in derived.get("SharedFunctionalGroupsSequence") or ():
        items += shared.get(keyword) or ()
        _delete(shared, (keyword,))
    return items


def _derivation_image(derived: Dataset, source: Dataset, frame_number: int) -> Dataset:
    image = provenance.source_image(source)
    image.ReferencedFrameNumber = frame_number
    item = Dataset()
    item.DerivationDescription = derived.DerivationDescription
    item.DerivationCodeSequence = Sequence([deepcopy(derived.DerivationCodeSequence[-1])])
    item.SourceImageSequence = Sequence([image])
    return item


def _evidence(source: Dataset) -> Dataset:
    """Return the item of the Source Image Evidence Sequence (0008,9154) that names the source (PS3.3 C.17.2.1)."""
    series, item = Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ReferencedSOPSequence = Sequence([provenance.referenced_instance(source)])
    item.StudyInstanceUID = source.StudyInstanceUID
    item.ReferencedSeriesSequence = Sequence([series])
    return item


def _delete(dataset: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]
