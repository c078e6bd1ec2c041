"""Words of Image Type (0008,0008), from its third value on, by which an image is no slice in Hounsfield units.

Values 3 and up have defined terms (PS3.3 C.8.2.1.1.1, C.8.16.1) and words of each vendor, in which several words are
joined: ``CT_SOM5 PROT``. So whole values count, and the words in them.
"""

import re
from itertools import pairwise
from typing import Final

from pydicom.dataset import Dataset

from iscl_node.dicom.reading.legible import texts
from iscl_node.dicom.reading.values import code, codes

LOCALIZERS: Final = frozenset(
    {"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "TOPO", "TOP", "SURVIEW", "SCANOGRAM", "SCANOSCOPE"}
)
"""The defined term, and what vendors call it (PS3.3 C.8.2.1.1.1); TOP stands in Siemens' ``CT_SOM5 TOP``."""

SCREENS: Final = frozenset({"SCREEN", "SCREENSAVE", "SCREENSHOT", "SCREENCAPTURE", "CAPTURE", "PHOTO"})

PAGES: Final = frozenset(
    {"PROT", "PROTOCOL", "DOSE INFO", "DOSE SUMMARY", "DOSEREPORT", "DOSEINFO", "REPORT", "PAGE", "TEXT", "GRAPH"}
    | {"GRAPHIC", "CHART", "CURVE", "TABLE", "SUMMARY"}
)

TOMOSYNTHESES: Final = frozenset({"TOMOSYNTHESIS", "GENERATED 2D", "MAMMOGRAPHY", "MAMMO"})

RENDERINGS: Final = frozenset(
    {"VOLUME RENDER", "VOLUME RENDERING", "RENDER", "RENDERED", "RENDERING", "VRT", "SSD", "SHADED SURFACE"}
    | {"FUSION", "FUSED", "VIRTUAL ENDOSCOPY", "ENDOSCOPY"}
)

MATERIAL_MAPS: Final = frozenset(
    {"MAT SPECIFIC", "MAT REMOVED", "MAT FRACTIONAL", "MAT MODIFIED", "MAT VALUE BASED"}
    | {"EFF ATOMIC NUM", "ELECTRON DENSITY", "IODINE", "IODINE MAP", "IODINE DENSITY", "Z EFF", "ZEFF", "VNC", "VUE"}
    | {"VIRTUAL NON CONTRAST", "VIRTUAL UNENHANCED", "WATER", "CALCIUM", "URIC ACID", "RHO", "RHO Z", "MD", "MATERIAL"}
)
"""What multi-energy CT computes of its spectra (value 4 of Image Type, PS3.3 C.8.2.1.1.1): other quantities, or values
in HU with other noise than the model knows. VMI, a virtual monoenergetic image in HU, is a CT image like others."""

PERFUSION_MAPS: Final = frozenset(
    {"PERFUSION", "CBF", "CBV", "MTT", "TTP", "TTD", "TTS", "TMAX", "PBV", "PERMEABILITY", "PS", "BLOOD FLOW"}
    | {"BLOOD VOLUME", "RCBF", "RCBV", "HAF", "HAP", "PENUMBRA", "CORE", "BF", "BV"}
)

CALCULATED: Final = frozenset(
    {"ADDITION", "DIVISION", "MULTIPLICATION", "QUANTITY", "STD DEVIATION", "SUBTRACTION", "SUBTRACT", "SUBTRACTED"}
    | {"T TEST", "Z SCORE", "DIFFERENCE", "DIFF", "RATIO", "DSA", "SEGMENTATION", "SEGMENTED", "MASK", "LABEL", "MAP"}
    | {"PARAMETRIC", "PARAMETER", "UMAP", "MUMAP", "MU MAP", "ATTENUATION", "ATTEN MAP"}
    | {"PROBABILITY", "CLASSIFICATION", "VELOCITY", "STRAIN", "FRACTION", "COLOR", "COLOUR"}
)
"""Derived Pixel Contrasts (PS3.3 C.8.16.1.4) that are no attenuation any more, and words that say the same."""

_MAP_IN_WORDS: Final = re.compile(
    r"\b(?:r?CB[FV]|MTT|TT[PD]|T-?max|perfusion map|blood (?:flow|volume) map|mean transit time|time to peak"
    r"|iodine (?:map|density|concentration|overlay)|effective (?:atomic number|z)|z-?_?eff(?:ective)?"
    r"|electron density|parametric map|(?:mu|attenuation)-? ?map)\b",
    re.IGNORECASE,
)
"""Quantities that no slice in Hounsfield units is called after."""

_NOT_OF_A_WORD: Final = re.compile(r"[^A-Z0-9]+")
_WHOLE_ONLY: Final = frozenset({"PS", "BF", "BV", "MD", "CORE", "RHO", "TOP", "WATER", "TABLE", "LABEL"})
"""Too short, or too common, to mean anything inside of another value; but see ``_VENDOR``."""
_VENDOR: Final = re.compile(r"CT SOM\d+ (\w+)")


def is_no_map_by_its_description(dataset: Dataset) -> bool:
    """Whether the Series Description of an image that is derived names no quantity of a map."""
    return code(dataset, "ImageType") != "DERIVED" or not _MAP_IN_WORDS.search(texts(dataset, "SeriesDescription")[0])


def names(dataset: Dataset, words: frozenset[str]) -> bool:
    """Whether Image Type has one of the words from its third value on."""
    return not words.isdisjoint(_words(codes(dataset, "ImageType")[2:]))


def _words(values: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    for value in values:
        plain = _NOT_OF_A_WORD.sub(" ", value).strip()
        single = plain.split()
        pairs = map(" ".join, pairwise(single))
        found |= {plain, *_VENDOR.findall(plain), *(set(single) - _WHOLE_ONLY), *pairs}
    return found
