"""May an instance be processed? Judged by everything that it says of itself, but for its pixels.

A CT Image is not always a slice in Hounsfield units: workstations store screens, pages and maps under its SOP Class,
and programs on the way rewrite what would show it. Each rule names what it found.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID

from iscl_node.dicom.provenance import is_own_output
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.legible import texts
from iscl_node.dicom.reading.values import code, codes, number, numbers
from iscl_node.dicom.reading.volume import BITS_ALLOCATED
from iscl_node.dicom.selecting import image_types
from iscl_node.dicom.selecting.scouts import is_projection
from iscl_node.domain import CT_STORAGE

HOUNSFIELD_TYPES: Final = frozenset({"", "HU", "US", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNDSFIELD UNIT"})
"""Rescale Types read as Hounsfield units, in capitals: the defined term HU, US (unspecified), none at all, which means
HU (PS3.3 C.8.2.1), and words found in the field, the misspelt one on GE. Others are maps, for example of Z_EFF."""

HOUNSFIELD_CODES: Final = frozenset({"[hnsf'U]", "HU"})
"""Measurement units of a Real World Value Mapping: UCUM's code, and one found in the field."""

RESCALE: Final = ("RescaleSlope", "RescaleIntercept")
LEAST_BITS: Final = 10
"""Bits Stored of a CT Image are 12 to 16 (PS3.3 C.8.2.1.1.4); 8 hold a window of grey values and no HU scale."""
LEAST_KV: Final = 45.0
"""CT has 60 kV and more, mammography and its tomosynthesis 20 to 40."""
SLOPES: Final = (1e-3, 1e2)
"""Magnitudes of Rescale Slope in the field: CT has 1, PET/CT and maps down to 0.01; 16 bits at 100 HU are no image."""


class Consequence(Enum):
    """What becomes of an instance that does not fulfil a requirement."""

    IGNORED = auto()
    """It is no slice, and no action is needed: it is left out; a series of nothing else is ignored."""
    LEFT_OUT = auto()
    """It is not in Hounsfield units: it is left out; a series of nothing else goes to quarantine."""
    QUARANTINE = auto()
    """It is a slice that cannot be processed: its series waits for a person, because a slice would be missing."""


class Requirement(NamedTuple):
    """What an instance must fulfil, and how it reads when it does not."""

    fault: str
    is_fulfilled: Callable[[Dataset], bool]
    otherwise: Consequence


def fault_of(instance: Dataset) -> Requirement | None:
    """Return the first requirement that an instance does not fulfil in all of its frames, or None.

    What only some frames are at fault of cannot be left out: it is quarantined.

    Raises
    ------
    QuarantineSeriesError
        As ``frames.frames``.
    """
    views = frames(instance)
    for each in REQUIREMENTS:
        count = sum(not each.is_fulfilled(view) for view in views)
        if count:
            return each if count == len(views) else each._replace(otherwise=Consequence.QUARANTINE)
    return None


def is_left_out(instance: Dataset) -> bool:
    """Whether an instance is none of the slices of its series."""
    fault = fault_of(instance)
    return fault is not None and fault.otherwise is not Consequence.QUARANTINE


def _has_sides(dataset: Dataset) -> bool:
    return min(number(dataset, "Rows") or 0, number(dataset, "Columns") or 0) >= 1


def _has_rescale(dataset: Dataset) -> bool:
    return all(texts(dataset, keyword)[0] for keyword in RESCALE)


def _has_rescale_of_numbers(dataset: Dataset) -> bool:
    return all(number(dataset, keyword) is not None for keyword in RESCALE)


def _has_usable_slope(dataset: Dataset) -> bool:
    return SLOPES[0] <= abs(number(dataset, "RescaleSlope") or 0) <= SLOPES[1]


def _has_usable_bits(dataset: Dataset) -> bool:
    bits = number(dataset, "BitsStored") or 0
    return 1 < bits <= BITS_ALLOCATED and number(dataset, "HighBit") == bits - 1


def _is_in_hounsfield_units(dataset: Dataset) -> bool:
    return code(dataset, "RescaleType") in HOUNSFIELD_TYPES


def _has_units_of_hounsfield(dataset: Dataset) -> bool:
    """Units (0054,1001) are of PET and SPECT (PS3.3 C.8.9.1.1.3), and of their attenuation maps."""
    return code(dataset, "Units") in HOUNSFIELD_TYPES


def _is_mapped_to_hounsfield_units(dataset: Dataset) -> bool:
    """Of several mappings (PS3.3 C.7.6.16.2.11) one to Hounsfield units is enough; most images have none."""
    mappings = dataset.get("RealWorldValueMappingSequence") or ()
    found = [each for mapped in mappings for each in mapped.get("MeasurementUnitsCodeSequence") or ()]
    return not found or any(each.get("CodeValue") in HOUNSFIELD_CODES for each in found)


def _tells_what_it_shows(dataset: Dataset) -> bool:
    """PS3.3 C.8.2.1.1.1: value 4 of Image Type shall be there when the acquisition is multi-energy."""
    return code(dataset, "MultienergyCTAcquisition") != "YES" or len(codes(dataset, "ImageType")) > 3


def _is_placed(dataset: Dataset) -> bool:
    """Whether anything says where it lies, or how it was scanned (PS3.3 C.7.6.2 and C.8.2.1)."""
    return bool(
        numbers(dataset, "ImagePositionPatient", 3)
        or numbers(dataset, "ImageOrientationPatient", 6)
        or number(dataset, "KVP")
    )


def _is_of_a_scanner(dataset: Dataset) -> bool:
    """An original image, or a derived one that has a place."""
    return code(dataset, "ImageType") != "DERIVED" or _is_placed(dataset)


def _has_burned_in_text(dataset: Dataset) -> bool:
    return code(dataset, "BurnedInAnnotation") == "YES"


def _has_kv_of_ct(dataset: Dataset) -> bool:
    kv = number(dataset, "KVP") or 0
    return kv <= 0 or kv >= LEAST_KV


def _has_no(words: frozenset[str]) -> Callable[[Dataset], bool]:
    return lambda dataset: not image_types.names(dataset, words)


_I, _L, _Q = Consequence.IGNORED, Consequence.LEFT_OUT, Consequence.QUARANTINE

REQUIREMENTS: Final = (
    Requirement("is not of a CT storage class", lambda ds: ds.get("SOPClassUID") in CT_STORAGE, _I),
    Requirement("was made by this node already", lambda ds: not is_own_output(ds), _I),
    Requirement("is a localizer", _has_no(image_types.LOCALIZERS), _I),
    Requirement("is a screen or a secondary capture by its Image Type", _has_no(image_types.SCREENS), _I),
    Requirement("is a page of a protocol or a report by its Image Type", _has_no(image_types.PAGES), _I),
    Requirement(
        "is a secondary capture: text is burned in, and it has no position, orientation or kV",
        lambda ds: _is_placed(ds) or not _has_burned_in_text(ds),
        _I,
    ),
    Requirement(
        "is a secondary capture: it has a Conversion Type, and no position, orientation or kV",
        lambda ds: _is_placed(ds) or not code(ds, "ConversionType"),
        _I,
    ),
    Requirement("is a scout (localizer) by its plane and thickness", lambda ds: not is_projection(ds), _I),
    Requirement("has several samples per pixel", lambda ds: number(ds, "SamplesPerPixel") in (None, 1), _L),
    Requirement("is in color", lambda ds: code(ds, "PixelPresentation") in ("", "MONOCHROME"), _L),
    Requirement(
        "is neither MONOCHROME2 nor MONOCHROME1",
        lambda ds: code(ds, "PhotometricInterpretation") in ("MONOCHROME2", "MONOCHROME1"),
        _L,
    ),
    Requirement("is tomosynthesis by its Image Type", _has_no(image_types.TOMOSYNTHESES), _L),
    Requirement("has a kV of mammography, not of CT", _has_kv_of_ct, _L),
    Requirement("is a volume rendering by its Image Type", _has_no(image_types.RENDERINGS), _L),
    Requirement("is a material map of multi-energy CT", _has_no(image_types.MATERIAL_MAPS), _L),
    Requirement("is a perfusion map by its Image Type", _has_no(image_types.PERFUSION_MAPS), _L),
    Requirement("is a calculated map by its Image Type", _has_no(image_types.CALCULATED), _L),
    Requirement("is derived, and a map by its Series Description", image_types.is_no_map_by_its_description, _L),
    Requirement("is not in Hounsfield units by its Rescale Type", _is_in_hounsfield_units, _L),
    Requirement("is not in Hounsfield units by its Units (0054,1001)", _has_units_of_hounsfield, _L),
    Requirement("is not in Hounsfield units by its Real World Value Mapping", _is_mapped_to_hounsfield_units, _L),
    Requirement("is derived, and has no position, orientation or kV of a slice", _is_of_a_scanner, _L),
    Requirement("has text burned in", lambda ds: not _has_burned_in_text(ds), _L),
    Requirement(
        "has no Rows and Columns", lambda ds: min(number(ds, "Rows") or 0, number(ds, "Columns") or 0) >= 1, _Q
    ),
    Requirement("has no Samples per Pixel", lambda ds: number(ds, "SamplesPerPixel") is not None, _Q),
    Requirement(
        "has several frames in a CT Image, which has one: send it as Enhanced CT, or each frame as an image",
        lambda ds: (number(ds, "NumberOfFrames") or 1) == 1,
        _Q,
    ),
    Requirement(
        "is a part of a concatenation: send the image in one piece", lambda ds: "ConcatenationUID" not in ds, _Q
    ),
    Requirement(
        "has not 16 bits allocated, as a CT has (8 bits hold no HU scale)",
        lambda ds: number(ds, "BitsAllocated") == BITS_ALLOCATED,
        _Q,
    ),
    Requirement("has an unusual Bits Stored or High Bit", _has_usable_bits, _Q),
    Requirement(
        "has so few Bits Stored that they hold grey values and no HU scale",
        lambda ds: (number(ds, "BitsStored") or 0) >= LEAST_BITS,
        _Q,
    ),
    Requirement("has no Pixel Representation", lambda ds: number(ds, "PixelRepresentation") in (0, 1), _Q),
    Requirement("has no Rescale Slope and Intercept", _has_rescale, _Q),
    Requirement("has a Rescale Slope or Rescale Intercept that is not one number", _has_rescale_of_numbers, _Q),
    Requirement("has Rescale Slope 0", lambda ds: number(ds, "RescaleSlope") != 0, _Q),
    Requirement("has an absurd Rescale Slope", _has_usable_slope, _Q),
    Requirement(
        "is of multi-energy CT, but value 4 of its Image Type does not say what it shows", _tells_what_it_shows, _Q
    ),
)
"""What every instance, and every frame of one, must fulfil (PS3.3 C.8.2.1, C.8.15 and C.7.6.3); the first that is not
fulfilled gives the reason."""


def named(fault: Requirement, instances: Sequence[Dataset]) -> str:
    """The text of a fault, with the SOP Class where that is the fault."""
    if fault is not REQUIREMENTS[0]:
        return fault.fault
    return f"is {UID(str(instances[0].get('SOPClassUID'))).name}, no CT Image"
