"""Reads whose instance a file holds, for the audit trail."""

from typing import BinaryIO, Final

from pydicom import dcmread
from pydicom.dataset import Dataset

from iscl_node.domain import InstanceIdentity

_NEEDED: Final = ["SpecificCharacterSet", "SOPClassUID", "PatientID", "StudyInstanceUID"]


def read_identity(file: BinaryIO) -> InstanceIdentity:
    """Read patient, study, SOP Class, and who sent it (PS3.10 7.1); what is not there is empty.

    Raises
    ------
    Exception
        The file cannot be read; pydicom raises almost anything for foreign bytes.
    """
    data_set = dcmread(file, stop_before_pixels=True, specific_tags=_NEEDED)
    return InstanceIdentity(
        patient_id=_text(data_set, "PatientID"),
        study_instance_uid=_text(data_set, "StudyInstanceUID"),
        sop_class_uid=_text(data_set, "SOPClassUID"),
        source_ae_title=_text(data_set.file_meta, "SourceApplicationEntityTitle"),
    )


def _text(data_set: Dataset, keyword: str) -> str:
    return str(data_set.get(keyword) or "").strip()
