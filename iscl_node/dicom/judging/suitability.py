"""What the model was not made for, found in the header and the noise of a series, in fixed words without a value."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydicom.dataset import Dataset

from iscl_node.dicom.judging.series import SeriesNoise
from iscl_node.dicom.reading.legible import texts
from iscl_node.dicom.reading.values import numbers
from iscl_node.domain.strength import SHARP_KERNEL

ITERATIVE: Final = "iterative reconstruction"
CHILD: Final = "a child, or a body of a child's size"
PIXELS: Final = "pixels of another size than 0.4 to 1 mm"
LOSSY: Final = "lossy compression"
NOISIER: Final = "more noise than 85 HU"
CAUTIONS: Final = (SHARP_KERNEL, ITERATIVE, CHILD, PIXELS, LOSSY, NOISIER)

SHARP_CORRELATION: Final = 0.12
"""Noise whose neighbouring pixels are less alike is that of a sharp kernel; soft ones begin at 0.13."""
MOST_NOISE_HU: Final = 85.0
"""The strongest noise that was simulated in training."""
LEAST_PIXEL_MM: Final = 0.4
MOST_PIXEL_MM: Final = 1.0
ADULT_YEARS: Final = 16.0
LEAST_BODY_MM: Final = 140.0
"""Effective diameter; heads of adults have 150 mm and more."""

_SHARP: Final = re.compile(
    r"(?i)^(BONE|BONEPLUS|EDGE|LUNG|ULTRA"  # GE
    r"|[BHIJU][A-Z]{0,2}[5-9]\d[A-Z]*"  # Siemens: B60f, Br64d, Bl57, Hr60, I70f, U70u
    r"|D|E|L|YB|YC|YD"  # Philips
    r"|FC(3\d|5\d|8\d))$"  # Canon
)
_ITERATIVE_KERNEL: Final = re.compile(r"^([IJQ]\d\d[a-z]?|[A-Z][a-z]?\d\d[a-z]?\\[1-5])")
"""Siemens: SAFIRE I31f and J30s with their strength, ADMIRE and QIR Br40d with theirs."""
_ITERATIVE_NAME: Final = re.compile(
    r"(?i)\b(ASIR|ASIR-V|SAFIRE|ADMIRE|IDOSE\d?|IMR\d?|VEO|MBIR|AIDR|AIDR ?3D|AICE|DLIR|TRUEFIDELITY|QIR)\b"
)
_NAMED_IN: Final = ("ConvolutionKernel", "FilterType", "SeriesDescription", "ProtocolName", "ReconstructionAlgorithm")
_GE_LEVEL: Final = (0x0053, "GEHC_CT_ADVAPP_001", 0x43)
"""Iterative Recon Level of GE, in percent for ASiR: group, Private Creator and last byte of the element."""
_NO_LEVEL: Final = ("", "0", "NONE", "OFF")
_LIST: Final = re.compile(r"[\[\]' ]")
"""What a list of several values has as text."""
_AGE: Final = re.compile(r"^(\d{3})([DWMY])$")
_PER_YEAR: Final = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


def cautions(instances: Sequence[Dataset], noise: SeriesNoise, body_mm: float | None) -> tuple[str, ...]:
    """Name what a series has that the model was not made for, each of :data:`CAUTIONS` at most once.

    Parameters
    ----------
    instances : sequence of Dataset
        Slices of the series, or frames.
    noise : SeriesNoise
        Of the series.
    body_mm : float or None
        Effective diameter of the body; None where it is not known.
    """
    found = {each for instance in instances for each in _of_header(instance)} | set(_of_pixels(noise, body_mm))
    return tuple(each for each in CAUTIONS if each in found)


def is_sharp(kernel: str) -> bool:
    """Whether the name of a Convolution Kernel is one of a sharp kernel."""
    return bool(_SHARP.match(kernel.split("\\")[0].strip()))


def _of_header(instance: Dataset) -> Iterator[str]:
    kernel = _LIST.sub("", texts(instance, "ConvolutionKernel")[0]).replace(",", "\\")
    if is_sharp(kernel):
        yield SHARP_KERNEL
    if _is_iterative(instance, kernel):
        yield ITERATIVE
    if _years(texts(instance, "PatientAge")[0]) < ADULT_YEARS:
        yield CHILD
    spacing = numbers(instance, "PixelSpacing", 2)
    if spacing is not None and not LEAST_PIXEL_MM <= min(spacing) <= max(spacing) <= MOST_PIXEL_MM:
        yield PIXELS
    if texts(instance, "LossyImageCompression")[0] == "01":
        yield LOSSY


def _is_iterative(instance: Dataset, kernel: str) -> bool:
    named: Iterable[str] = (texts(instance, keyword)[0] for keyword in _NAMED_IN)
    is_coded = texts(instance, "ReconstructionAlgorithm")[0].upper().startswith("ITERATIVE")
    is_named = bool(_ITERATIVE_KERNEL.match(kernel)) or any(map(_ITERATIVE_NAME.search, named))
    return is_coded or is_named or _ge_level(instance) not in _NO_LEVEL


def _ge_level(instance: Dataset) -> str:
    """GE names ASiR nowhere else; where the header has Implicit VR or UN, the value is bytes."""
    group, creator, element = _GE_LEVEL
    try:
        value = instance.private_block(group, creator)[element].value
    except KeyError:
        return ""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip(" \0").upper()


def _years(age: str) -> float:
    """An age string (PS3.5 6.2, AS) in years; without one, an adult's."""
    match = _AGE.match(age)
    return float(match[1]) / _PER_YEAR[match[2]] if match else ADULT_YEARS


def _of_pixels(noise: SeriesNoise, body_mm: float | None) -> Iterator[str]:
    if noise.correlation is not None and noise.correlation < SHARP_CORRELATION:
        yield SHARP_KERNEL
    if body_mm is not None and body_mm < LEAST_BODY_MM:
        yield CHILD
    if noise.level_hu is not None and noise.level_hu > MOST_NOISE_HU:
        yield NOISIER
