"""Multi-frame CT as single slices: one data set per frame that reads like a CT Image (PS3.3 C.7.6.16).

Enhanced CT and Legacy Converted Enhanced CT keep what belongs to a slice, such as position, rescale and window, in
functional groups, some shared by all frames and some per frame. Here they lie at the top level again, under the
attributes of a CT Image, so that what reads a slice needs not know of frames.

A view shares the values of its source, and its Pixel Data is read when it is asked for, each time anew and of that
frame only: from the source's file, as long as the source's own Pixel Data was not read from it.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import SEEK_CUR, BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import get_expected_length
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from iscl_node.domain import MULTIFRAME_CT_STORAGE
from iscl_node.errors import QuarantineSeriesError

FLATTENED: Final = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
    "FrameAnatomySequence",
    "CTImageFrameTypeSequence",
    "CTAcquisitionTypeSequence",
    "CTAcquisitionDetailsSequence",
    "CTTableDynamicsSequence",
    "CTPositionSequence",
    "CTGeometrySequence",
    "CTReconstructionSequence",
    "CTExposureSequence",
    "CTXRayDetailsSequence",
)
"""Functional groups of one item (PS3.3 C.7.6.16.2 and C.8.15.3) whose attributes a CT Image has at its top level."""

UNASSIGNED: Final = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""What a legacy conversion found no other place for (PS3.3 C.7.6.16.2.25): it fills gaps only."""

KEPT_AS_SEQUENCES: Final = ("RealWorldValueMappingSequence",)
"""Functional groups that a CT Image has at its top level as sequences."""

CT_IMAGE_TWINS: Final = (
    ("FrameType", "ImageType"),
    ("XRayTubeCurrentInmA", "XRayTubeCurrent"),
    ("ExposureTimeInms", "ExposureTime"),
    ("ExposureInmAs", "Exposure"),
)
"""Attributes of Enhanced CT and those of a CT Image that mean the same, in the same unit."""

GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

_PIXEL_DATA: Final = Tag("PixelData")
_NOT_OF_A_FRAME: Final = frozenset(
    map(Tag, (*GROUPS, "NumberOfFrames", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"))
)

Elements = dict[BaseTag, DataElement | RawDataElement]


class FrameView(Dataset):
    """One frame as a CT Image; for reading, not for writing.

    Parameters
    ----------
    elements : dict of BaseTag to DataElement
        All but Pixel Data.
    number : int
        The frame's number in its source, from 1.
    read_pixels : callable
        Returns the value of Pixel Data of this frame.
    """

    def __init__(self, elements: Elements, number: int, read_pixels: Callable[[], bytes]) -> None:
        super().__init__({**elements, _PIXEL_DATA: DataElement(_PIXEL_DATA, "OW", b"")})
        self.frame_number = number
        self._read_pixels = read_pixels

    def __getitem__(self, key: Any) -> Any:
        """Return the element; that of Pixel Data with a value that is read now and not kept."""
        element = super().__getitem__(key)
        return DataElement(_PIXEL_DATA, "OW", self._read_pixels()) if _is_pixel_data(element) else element


def is_multiframe(source: Dataset) -> bool:
    """Whether the instance is of a SOP Class whose frames are in functional groups."""
    return source.get("SOPClassUID") in MULTIFRAME_CT_STORAGE


def frames(source: Dataset) -> tuple[Dataset, ...]:
    """Return the slices of an instance in the order of its frames.

    Parameters
    ----------
    source : Dataset
        A CT Image, Enhanced CT Image or Legacy Converted Enhanced CT Image; never changed.

    Returns
    -------
    tuple of Dataset
        For a CT Image, and anything else, the source itself; otherwise a :class:`FrameView` for each frame, good for as
        long as the source and its file are there.

    Raises
    ------
    QuarantineSeriesError
        When Number of Frames and the functional groups do not agree.
    """
    if not is_multiframe(source):
        return (source,)
    per_frame = _items(source, "PerFrameFunctionalGroupsSequence")
    count = _number_of_frames(source)
    if not 0 < count == len(per_frame):
        raise QuarantineSeriesError(f"the image has {count} frames, but functional groups for {len(per_frame)}")
    return tuple(_views(source, per_frame))


def _number_of_frames(source: Dataset) -> int:
    try:
        return int(source.get("NumberOfFrames") or 0)
    except (TypeError, ValueError):
        return 0


def _views(source: Dataset, per_frame: Sequence[Dataset]) -> Iterator[FrameView]:
    tags = [tag for tag in source.keys() if tag not in _NOT_OF_A_FRAME]  # noqa: SIM118 - iterating gives elements
    whole: Elements = {tag: source.get_item(tag) for tag in tags}
    shared = [_flattened(each) for each in _items(source, "SharedFunctionalGroupsSequence")]
    is_implicit, is_little_endian = source.original_encoding
    for index, groups in enumerate(per_frame):
        view = FrameView(
            _over(whole, [*shared, _flattened(groups)]), index + 1, partial(_pixels_of, source, index, len(per_frame))
        )
        view.set_original_encoding(is_implicit, is_little_endian, source.original_character_set)
        if hasattr(source, "file_meta"):
            view.file_meta = source.file_meta
        _add_twins(view)
        yield view


def _flattened(groups: Dataset) -> tuple[Elements, Elements]:
    """Return the attributes of an item of functional groups: those of known groups, and the unassigned ones."""
    named: Elements = {Tag(keyword): groups[keyword] for keyword in KEPT_AS_SEQUENCES if keyword in groups}
    for keyword in FLATTENED:
        named |= _elements_of(groups, keyword)
    return named, {tag: each for keyword in UNASSIGNED for tag, each in _elements_of(groups, keyword).items()}


def _over(whole: Elements, groups: Sequence[tuple[Elements, Elements]]) -> Elements:
    """Lay functional groups, the frame's own last, over the attributes of the whole image."""
    elements: Elements = {}
    for _, unassigned in groups:
        elements |= unassigned
    elements |= whole
    for named, _ in groups:
        elements |= named
    return elements


def _elements_of(group: Dataset, keyword: str) -> Elements:
    """Return the elements of a functional group's only item."""
    items = _items(group, keyword)
    return dict(items[0].items()) if len(items) == 1 else {}


def _items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    return tuple(dataset.get(keyword) or ())


def _add_twins(view: Dataset) -> None:
    for enhanced, classic in CT_IMAGE_TWINS:
        value, vr = view.get(enhanced), dictionary_VR(classic)
        if vr == "IS":
            value = _whole(value)
        if value is not None:
            # Replaced, not set: the element there is the source's.
            view.add_new(classic, vr, value)


def _whole(value: object) -> int | None:
    """Return the whole number (IS, PS3.5 6.2) that a CT Image has for a fraction in Enhanced CT."""
    return round(value) if isinstance(value, int | float) and isfinite(value) else None


def _is_pixel_data(element: object) -> bool:
    return isinstance(element, DataElement) and element.tag == _PIXEL_DATA


def _pixels_of(source: Dataset, index: int, count: int) -> bytes:
    """Return the value of Pixel Data that an image of this frame alone would have.

    Raises
    ------
    QuarantineSeriesError
        When the frame is not there.
    """
    try:
        with _opened(source) as stream:
            if not UID(source.file_meta.TransferSyntaxUID).is_encapsulated:
                return _native_frame(source, stream, index)
            return encapsulate([get_frame(stream, index, extended_offsets=_offsets(source), number_of_frames=count)])
    except (AttributeError, RuntimeError, TypeError, ValueError, struct.error) as error:
        raise QuarantineSeriesError(
            f"the pixels of frame {index + 1} are not there ({type(error).__name__})"
        ) from error


def _opened(source: Dataset) -> BinaryIO:
    """Return a stream that stands at the value of the source's Pixel Data, without reading it."""
    element = source.get_item(_PIXEL_DATA, keep_deferred=True)
    if isinstance(element, RawDataElement) and element.value is None and _lies_in_its_file(source):
        stream = Path(str(source.filename)).open("rb")  # noqa: SIM115 - closed by the caller
        stream.seek(element.value_tell)
        return stream
    return BytesIO(source.PixelData)  # shares the bytes


def _lies_in_its_file(source: Dataset) -> bool:
    """A deflated data set has no bytes of its own in the file (PS3.5 A.5)."""
    return source.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian and bool(
        getattr(source, "filename", "")
    )


def _native_frame(source: Dataset, stream: BinaryIO, index: int) -> bytes:
    length = get_expected_length(source, unit="bytes") // _number_of_frames(source)
    stream.seek(index * length, SEEK_CUR)
    return stream.read(length)


def _offsets(source: Dataset) -> tuple[bytes, bytes] | None:
    if "ExtendedOffsetTable" not in source or "ExtendedOffsetTableLengths" not in source:
        return None
    return source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths
