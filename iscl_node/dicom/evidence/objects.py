"""What the objects beside a derived series have in common: the noise map and the report.

highdicom builds them. It is handed only what it needs of a source: identities in the field hold values that it refuses,
and here they are kept byte for byte afterwards. The times and UIDs that it draws are replaced by computed ones.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from iscl_node.dicom import provenance, uids
from iscl_node.dicom.deriving.inherited import inherited
from iscl_node.dicom.deriving.writing import (
    as_file,
    as_written,
    series_number,
    set_series_description,
    set_time_zone,
    set_times,
)
from iscl_node.dicom.uids import derivation_number, derived_uid, device_uid
from iscl_node.domain import Derivation

PATIENT_GROUPS: Final = frozenset({0x0010, 0x0012})
"""Patient, patient study, clinical trial and de-identification (PS3.3 C.7.1, C.7.2.2)."""
STUDY: Final = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "IssuerOfAccessionNumberSequence",
        "ReferringPhysicianName",
        "ReferringPhysicianIdentificationSequence",
        "ConsultingPhysicianName",
        "PhysiciansOfRecord",
        "NameOfPhysiciansReadingStudy",
        "RequestingService",
        "StudyDescription",
        "ProcedureCodeSequence",
        "ReferencedStudySequence",
        "AdmissionID",
        "IssuerOfAdmissionIDSequence",
        "ServiceEpisodeID",
        "ServiceEpisodeDescription",
        "AdmittingDiagnosesDescription",
        "InstitutionName",
        "InstitutionAddress",
        "InstitutionalDepartmentName",
    )
)
"""General Study (PS3.3 C.7.2.1), the visit (C.7.2.2), and what goes with them of place and SOP Common."""
OF_IMAGES: Final = frozenset(map(tag_for_keyword, ("BodyPartExamined", "Laterality", "PatientPosition")))
"""What image series say of the body (PS3.3 C.7.3.1), and documents do not."""

NUMBERS_PER_KIND: Final = 125


@dataclass(frozen=True)
class Kind:
    """A kind of evidence.

    ``role`` goes into its UIDs (:func:`uids.derived_uid`); ``suffix`` ends its Series Description, behind the derived
    series' own; ``first_number`` is the first of the 125 numbers that its series may have beside the source's number.
    """

    role: str
    suffix: str
    first_number: int


NOISE_MAP: Final = Kind("noise map", " noise map", 750)
REPORT: Final = Kind("report", " report", 875)
"""A source series 3 has maps of number 3750 to 3874, reports 3875 to 3999; derived series end at 3749."""


def series_uid(source: Dataset, kind: Kind, derivation: Derivation) -> str:
    """Return the Series Instance UID of a kind of evidence on a source series."""
    return str(derived_uid(str(source.SeriesInstanceUID), derivation, f"{kind.role} series"))


def instance_uid(views: Items[Dataset], kind: Kind, derivation: Derivation) -> str:
    """Return the SOP Instance UID of the evidence on these source images or frames, in this order."""
    names = "\n".join(reference_name(view) for view in views)
    return str(uids.instance_uid(str(views[0].SeriesInstanceUID), names, derivation, kind.role))


def reference_name(view: Dataset) -> str:
    """Return what distinguishes an image, or one frame of it, from all others."""
    frame = frame_number(view)
    return str(view.SOPInstanceUID) if frame is None else f"{view.SOPInstanceUID}/{frame}"


def frame_number(view: Dataset) -> int | None:
    """Return the number of a frame in its instance, from 1; None for an image of a single frame."""
    number: int | None = getattr(view, "frame_number", None)
    return number


def identity_for_highdicom(source: Dataset) -> dict[str, Any]:
    """Return the attributes that highdicom asks of every source, with the patient and the study left empty."""
    empty = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
    unknown = ("StudyDate", "StudyTime", "ReferringPhysicianName")
    uids = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return dict.fromkeys(empty, "") | dict.fromkeys(unknown) | {name: str(source[name].value) for name in uids}


def equipment_for_highdicom(derivation: Derivation) -> dict[str, Any]:
    """Return the constructor arguments of the General Equipment Module (PS3.3 C.7.5.1): the node made the object."""
    return {
        "manufacturer": provenance.NODE_MANUFACTURER,
        "manufacturer_model_name": provenance.NODE_MODEL_NAME,
        "software_versions": derivation.node_version,
        "device_serial_number": str(device_uid(derivation)),
    }


def finished(made: Dataset, source: Dataset, kind: Kind, derivation: Derivation, started: datetime) -> FileDataset:
    """Give an object that highdicom built its patient, its place in the study, and its story.

    Parameters
    ----------
    made : Dataset
        What highdicom built, with its UIDs; it is changed.
    source : Dataset
        Any instance of the source series.
    kind : Kind
        What was built.
    derivation : Derivation
        How the source was processed.
    started : datetime
        When work on the derived series started: a time of its own would make another object of every repetition.

    Returns
    -------
    FileDataset
        With file meta information, ready for ``derived.encode``.
    """
    written = as_written(started, source, derivation.site.time_zone)
    set_series_description(made, source, derivation.suffix + kind.suffix)
    made.SeriesNumber = _series_number(source, kind, derivation)
    made.InstanceCreatorUID = device_uid(derivation)
    set_times(made, written, "Series", "Content", "InstanceCreation")
    set_time_zone(made, source, written, derivation.site.time_zone)
    made.ContributingEquipmentSequence = Sequence(
        [*(source.get("ContributingEquipmentSequence") or ()), provenance.contributing_equipment(derivation, written)]
    )
    _keep_patient_and_study(made, source)
    return as_file(made, derivation.node_version, derivation.site.ae_title)


def _series_number(source: Dataset, kind: Kind, derivation: Derivation) -> int:
    own = derivation_number(str(source.SeriesInstanceUID), derivation, NUMBERS_PER_KIND)
    return series_number(source, kind.first_number + own)


def _keep_patient_and_study(made: Dataset, source: Dataset) -> None:
    kept = inherited(source)
    is_image = "Rows" in made
    for tag in list(kept.keys()):
        if tag.group in PATIENT_GROUPS or tag in STUDY or (is_image and tag in OF_IMAGES):
            made[tag] = kept.get_item(tag)
    is_implicit, is_little_endian = kept.original_encoding
    made.set_original_encoding(is_implicit, is_little_endian, kept.original_character_set)
