"""What a medical physicist watches of an examination: scanner, protocol, noise and dose; nothing of the patient.

The dose is the scanner's own word, CTDIvol (PS3.3 C.8.2.1 and C.8.15.3.8), for a phantom of 16 or 32 cm. What it means
for a body of this size is the size-specific dose estimate of AAPM Reports 204 and 220.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from iscl_node.dicom.judging.body_size import water_equivalent_diameter_mm
from iscl_node.dicom.reading.legible import texts, value_of
from iscl_node.dicom.reading.values import code, number, numbers
from iscl_node.dicom.reading.volume import Slice

PHANTOMS_MM: Final = {"113690": 160, "113691": 320}
"""IEC Head and Body Dosimetry Phantom (PS3.16 CID 4052)."""
_FACTORS: Final = {160: (1.874799, 0.03871313), 320: (3.704369, 0.03671937)}
"""Of AAPM Report 204, tables 1D and 2D: f = a exp(-b d), d in cm."""
_LONGEST: Final = 64
_NOT_SHOWN: Final = re.compile(r"[\x00-\x1f\x7f]+")
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{0,16}")


@dataclass(frozen=True)
class ExamFacts:
    """Of a source series; ``noise_hu`` is its global noise level, ``diameter_mm`` its water-equivalent diameter.

    Texts are empty, numbers None where nothing is known or can be measured.
    """

    manufacturer: str
    model: str
    station: str
    body_part: str
    kernel: str
    kv: float | None
    noise_hu: float | None
    diameter_mm: float | None
    ctdivol_mgy: float | None
    phantom_mm: int | None
    size_specific_dose_mgy: float | None

    @property
    def scanner(self) -> str:
        """Manufacturer and model: what a metric may name, since a station can be named after anybody."""
        return " ".join(each for each in (self.manufacturer, self.model) if each) or "unknown"


def exam_facts(sampled: Sequence[tuple[Slice, Dataset]], noise_hu: float | None) -> ExamFacts:
    """Return what is known of a series from a sample of its slices, (H, W) HU, each with its header; at least one."""
    first = sampled[0][1]
    diameter_mm = _mean(_diameter_mm(hu, header) for hu, header in sampled)
    ctdivol_mgy = _mean(_positive(number(header, "CTDIvol")) for _, header in sampled)
    phantom_mm = _phantom_mm(first)
    body_part = code(first, "BodyPartExamined")
    return ExamFacts(
        _text(first, "Manufacturer"),
        _text(first, "ManufacturerModelName"),
        _text(first, "StationName"),
        body_part if _CODE_STRING.fullmatch(body_part) else "OTHER",
        _text(first, "ConvolutionKernel"),
        _positive(number(first, "KVP")),
        noise_hu,
        diameter_mm,
        ctdivol_mgy,
        phantom_mm,
        size_specific_dose_mgy(ctdivol_mgy, phantom_mm, diameter_mm),
    )


def size_specific_dose_mgy(
    ctdivol_mgy: float | None, phantom_mm: int | None, diameter_mm: float | None
) -> float | None:
    """CTDIvol for a body of a water-equivalent diameter (AAPM Report 204); None where any of them is not known."""
    if ctdivol_mgy is None or phantom_mm is None or diameter_mm is None:
        return None
    scale, slope = _FACTORS[phantom_mm]
    return ctdivol_mgy * scale * math.exp(-slope * diameter_mm / 10)


def _diameter_mm(hu: Slice, header: Dataset) -> float | None:
    spacing = numbers(header, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        return None
    return water_equivalent_diameter_mm(hu, spacing[0] * spacing[1])


def _phantom_mm(header: Dataset) -> int | None:
    element = value_of(header, Tag("CTDIPhantomTypeCodeSequence"))
    items = element.value if element is not None and element.VR == "SQ" else ()
    return PHANTOMS_MM.get(texts(items[0], "CodeValue")[0]) if items else None


def _text(header: Dataset, keyword: str) -> str:
    return _NOT_SHOWN.sub(" ", texts(header, keyword)[0])[:_LONGEST].strip()


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
