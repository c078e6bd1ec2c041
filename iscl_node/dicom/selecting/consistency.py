"""What the instances of one series have in common: one patient, one study, one frame of reference (PS3.3 A.1.2).

A value that is empty or absent contradicts none. No message holds a value.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from pydicom.dataset import Dataset

from iscl_node.dicom.reading.legible import texts
from iscl_node.errors import QuarantineSeriesError

NAME_WRITINGS: Final = 3
"""Of a person's name, parted by ``=``: alphabetic, ideographic, phonetic (PS3.5 6.2.1.2). Each may be empty."""


class Attribute(NamedTuple):
    """What is compared of an attribute; ``plain`` takes away what says nothing."""

    name: str
    keyword: str
    plain: Callable[[str], str] = str


def check_one_series(instances: Sequence[Dataset]) -> None:
    """Check that the instances are of one patient, study, series and frame of reference.

    Raises
    ------
    QuarantineSeriesError
        Naming the attributes that differ, never their values.
    """
    for noun, attributes in UNITS:
        counts = {each.name: count for each in attributes if (count := _count(instances, each)) > 1}
        if counts:
            verb = "differs" if len(counts) == 1 else "differ"
            raise QuarantineSeriesError(f"{max(counts.values())} {noun} in one series: {_listed(list(counts))} {verb}")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not all(instance.get(keyword) for instance in instances):
            raise QuarantineSeriesError(f"an instance has no {keyword}")


def _count(instances: Sequence[Dataset], attribute: Attribute) -> int:
    """How many values there are, by their texts or by their bytes: the same bytes, or the same text, are one."""
    both_ways = [texts(instance, attribute.keyword) for instance in instances]
    return min(len({attribute.plain(each) for each in way} - {""}) for way in zip(*both_ways, strict=True))


def _date(text: str) -> str:
    """A date without the points of ACR-NEMA (PS3.5 6.2); zeros are none."""
    digits = "".join(filter(str.isdigit, text))
    return digits if digits.strip("0") else ""


def _name(writing: int, text: str) -> str:
    """One writing of a name, without blanks and empty components at the end, in one case."""
    writings = text.split("=")
    components = writings[writing].split("^") if writing < len(writings) else ()
    return "^".join(part.strip() for part in components).rstrip("^").casefold()


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


PATIENT: Final = (
    Attribute("Patient ID", "PatientID"),
    Attribute("Issuer of Patient ID", "IssuerOfPatientID"),
    *(Attribute("Patient's Name", "PatientName", partial(_name, writing)) for writing in range(NAME_WRITINGS)),
    Attribute("Patient's Birth Date", "PatientBirthDate", _date),
    Attribute("Patient's Sex", "PatientSex", str.upper),
)

UNITS: Final = (
    ("patients", PATIENT),
    ("studies", (Attribute("Study Instance UID", "StudyInstanceUID"),)),
    ("series", (Attribute("Series Instance UID", "SeriesInstanceUID"),)),
    ("modalities", (Attribute("Modality", "Modality"),)),
    ("frames of reference", (Attribute("Frame of Reference UID", "FrameOfReferenceUID"),)),
)
"""What there is one of in a series, and the attributes that identify it."""
