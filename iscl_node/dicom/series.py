"""May the instances of a series be processed, and in which order do they lie?"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from iscl_node.dicom.consistency import check_one_series
from iscl_node.dicom.frames import frames, is_multiframe
from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.volume import BITS_ALLOCATED
from iscl_node.domain import CT_STORAGE
from iscl_node.errors import QuarantineSeriesError

HOUNSFIELD_TYPES: Final = frozenset({"", "HU", "US", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNDSFIELD UNIT"})
"""Rescale Types read as Hounsfield units, in capitals: the defined term HU, US (unspecified), none at all, which means
HU (PS3.3 C.8.2.1), and words found in the field, the misspelt one on GE. Others are maps, for example of Z_EFF."""

HOUNSFIELD_CODES: Final = frozenset({"[hnsf'U]", "HU"})
"""Measurement units of a Real World Value Mapping: UCUM's code, and one found in the field."""

CALCULATED: Final = frozenset(
    {"ADDITION", "DIVISION", "MTT", "MULTIPLICATION", "QUANTITY", "RCBF", "RCBV", "STD_DEVIATION", "SUBTRACTION"}
    | {"T_TEST", "TTP", "Z_SCORE"}
)
"""Derived Pixel Contrasts (value 4 of Image or Frame Type, PS3.3 C.8.16.1.4) that are no attenuation any more."""

MATERIAL_MAPS: Final = frozenset(
    {"MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "MAT_MODIFIED", "MAT_VALUE_BASED"}
    | {"EFF_ATOMIC_NUM", "ELECTRON_DENSITY"}
)
"""What multi-energy CT computes of its spectra (value 4 of Image Type, PS3.3 C.8.2.1.1.1): other quantities, or values
in HU with other noise than the model knows. VMI, a virtual monoenergetic image in HU, is a CT image like others."""

MOST_PIXEL_BYTES: Final = 2 << 30
"""Of one instance, decompressed: 4000 frames of 512 x 512. A few megabytes can tell of more frames than fit any memory,
and the derived instance takes three times this."""

MOST_FRAME_PIXELS: Final = 2048 * 2048
"""Of one frame: the largest CT. The model takes 0.45 GB for a million pixels, so a small compressed file of many more
would end the node, again and again."""


def select_series(datasets: Iterable[Dataset], earlier: Sequence[Dataset] = ()) -> tuple[Dataset, ...]:
    """Check that the instances are one CT series that may be processed, and put them in order.

    Parameters
    ----------
    datasets : iterable of Dataset
        The instances of one series, in any order; their pixels are not looked at.
    earlier : sequence of Dataset
        Instances that were processed as this series before; they are of the same patient and study, or all is refused.

    Returns
    -------
    tuple of Dataset
        By position along the slice normal, or by Instance Number where a position is missing.

    Raises
    ------
    QuarantineSeriesError
        Naming the first rule that is broken and by how many instances.
    """
    instances = tuple(datasets)
    if not instances:
        raise QuarantineSeriesError("the series has no instances")
    _check_size(instances)
    _check_each(instances)
    check_one_series([*earlier, *instances])
    _check_together(instances)
    return _ordered(instances)


def numbers(dataset: Dataset, keyword: str, count: int) -> list[float] | None:
    """Return the numbers of an attribute, or None where it is absent, empty, or not what it should be."""
    try:
        values = [float(value) for value in np.atleast_1d(dataset.get(keyword))]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _is_localizer(dataset: Dataset) -> bool:
    return "LOCALIZER" in (dataset.get("ImageType") or ())


def _has_rescale(dataset: Dataset) -> bool:
    return bool(_number(dataset, "RescaleSlope")) and _number(dataset, "RescaleIntercept") is not None


def _has_usable_bits(dataset: Dataset) -> bool:
    bits = _number(dataset, "BitsStored") or 0
    return 1 < bits <= BITS_ALLOCATED and _number(dataset, "HighBit") == bits - 1


def _is_in_hounsfield_units(dataset: Dataset) -> bool:
    rescale_type = str(dataset.get("RescaleType") or "").strip().upper()
    return rescale_type in HOUNSFIELD_TYPES


def _is_mapped_to_hounsfield_units(dataset: Dataset) -> bool:
    """Of several mappings (PS3.3 C.7.6.16.2.11) one to Hounsfield units is enough; most images have none."""
    mappings = dataset.get("RealWorldValueMappingSequence") or ()
    codes = [code for mapped in mappings for code in mapped.get("MeasurementUnitsCodeSequence") or ()]
    return not codes or any(code.get("CodeValue") in HOUNSFIELD_CODES for code in codes)


def _tells_what_it_shows(dataset: Dataset) -> bool:
    """PS3.3 C.8.2.1.1.1: value 4 of Image Type shall be there when the acquisition is multi-energy."""
    return dataset.get("MultienergyCTAcquisition") != "YES" or len(_image_type(dataset)) > 3


def _image_type(dataset: Dataset) -> Sequence[str]:
    image_type = dataset.get("ImageType") or ()
    return (image_type,) if isinstance(image_type, str) else image_type


REQUIREMENTS: Final[tuple[tuple[str, Callable[[Dataset], bool]], ...]] = (
    ("is not of a CT storage class", lambda ds: ds.get("SOPClassUID") in CT_STORAGE),
    ("was made by this node already", lambda ds: not is_own_output(ds)),
    ("is a localizer", lambda ds: not _is_localizer(ds)),
    ("is not MONOCHROME2", lambda ds: ds.get("PhotometricInterpretation") == "MONOCHROME2"),
    ("has no Rows and Columns", lambda ds: min(_number(ds, "Rows") or 0, _number(ds, "Columns") or 0) >= 1),
    ("has several samples per pixel", lambda ds: _number(ds, "SamplesPerPixel") == 1),
    ("has several frames", lambda ds: (_number(ds, "NumberOfFrames") or 1) == 1),
    ("is a part of a concatenation: send the image in one piece", lambda ds: "ConcatenationUID" not in ds),
    ("is in color", lambda ds: ds.get("PixelPresentation", "MONOCHROME") == "MONOCHROME"),
    ("has not 16 bits allocated", lambda ds: _number(ds, "BitsAllocated") == BITS_ALLOCATED),
    ("has an unusual Bits Stored or High Bit", _has_usable_bits),
    ("has no Pixel Representation", lambda ds: _number(ds, "PixelRepresentation") in (0, 1)),
    ("has no Rescale Slope and Intercept", _has_rescale),
    ("is not in Hounsfield units by its Rescale Type", _is_in_hounsfield_units),
    ("is not in Hounsfield units by its Real World Value Mapping", _is_mapped_to_hounsfield_units),
    (
        "is a material map of multi-energy CT",
        lambda ds: MATERIAL_MAPS.isdisjoint(_image_type(ds)[3:]),
    ),
    ("is of multi-energy CT, but value 4 of its Image Type does not tell what it shows", _tells_what_it_shows),
    ("is a calculated map by its Image Type", lambda ds: CALCULATED.isdisjoint(_image_type(ds)[3:])),
)
"""What every instance, and every frame of one, must fulfil (PS3.3 C.8.2.1, C.8.15 and C.7.6.3), and how it reads when
one does not."""

SHARED: Final = ("Rows", "Columns")
"""Attributes that have one value throughout a series."""


def _check_size(instances: Sequence[Dataset]) -> None:
    for instance in instances:
        sides = [_number(instance, keyword) or 1 for keyword in ("Rows", "Columns", "NumberOfFrames")]
        if math.prod(sides) * BITS_ALLOCATED // 8 > MOST_PIXEL_BYTES:
            raise QuarantineSeriesError(
                f"an image has more than {MOST_PIXEL_BYTES >> 30} GiB of pixels when decompressed"
            )
        if math.prod(sides[:2]) > MOST_FRAME_PIXELS:
            raise QuarantineSeriesError(f"an image of {sides[0]:g} x {sides[1]:g} pixels is larger than any CT")


def _check_each(instances: Sequence[Dataset]) -> None:
    views = [view for instance in instances for view in frames(instance)]
    noun = "frames" if any(map(is_multiframe, instances)) else "instances"
    for fault, is_fulfilled in REQUIREMENTS:
        count = sum(not is_fulfilled(view) for view in views)
        if count:
            raise QuarantineSeriesError(f"{count} of {len(views)} {noun}: it {fault}")


def _check_together(instances: Sequence[Dataset]) -> None:
    for keyword in SHARED:
        values = {str(instance.get(keyword)) for instance in instances}
        if len(values) > 1 or "None" in values:
            raise QuarantineSeriesError(f"the instances do not have one {keyword} but {len(values)}, or none")
    if len({str(instance.SOPInstanceUID) for instance in instances}) < len(instances):
        raise QuarantineSeriesError("two instances have the same SOP Instance UID")


def _ordered(instances: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    positions = _positions_mm(instances)
    counted = [_number(instance, "InstanceNumber") or 0.0 for instance in instances]
    first = counted if positions is None else positions
    keys = [(first[i], counted[i], str(instance.SOPInstanceUID)) for i, instance in enumerate(instances)]
    return tuple(instances[i] for i in sorted(range(len(instances)), key=keys.__getitem__))


def _positions_mm(instances: Sequence[Dataset]) -> list[float] | None:
    """Return each slice's position along the first one's normal (PS3.3 C.7.6.2.1.1), or None if one is unknown."""
    orientation = numbers(instances[0], "ImageOrientationPatient", 6)
    corners = [numbers(instance, "ImagePositionPatient", 3) for instance in instances]
    if orientation is None or any(corner is None for corner in corners):
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    return [float(np.dot(normal, corner)) for corner in corners if corner is not None]


def _number(dataset: Dataset, keyword: str) -> float | None:
    values = numbers(dataset, keyword, 1)
    return None if values is None else values[0]
