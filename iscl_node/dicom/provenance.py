"""Who made a derived object, how, and from what: the attributes for a reader, and for the node itself."""

from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from iscl_node.dicom.uids import device_uid
from iscl_node.domain import Derivation, Site

NODE_MANUFACTURER: Final = "ISCL Node developers"
NODE_MODEL_NAME: Final = "ISCL Node"
RESEARCH: Final = "RESEARCH"
"""Content Qualification of what no authority cleared (PS3.3 C.8.13.2.1.1)."""

SMOOTHING: Final = ("113087", "DCM", "Smoothing")
"""CID 7203 has no code for noise reduction; this is its nearest."""
SOURCE_IMAGE: Final = ("121322", "DCM", "Source image for image processing operation")
"""CID 7202."""
SOURCE_SERIES: Final = ("121323", "DCM", "Source series for image processing operation")
"""CID 7210."""
PROCESSING_EQUIPMENT: Final = ("109102", "DCM", "Processing Equipment")
"""CID 7005."""

_LO_MAX_CHARACTERS: Final = 64
_ST_MAX_CHARACTERS: Final = 1024


def is_own_output(dataset: Dataset) -> bool:
    """Whether this node made the instance, by its Contributing Equipment Sequence (PS3.3 C.12.1.1.5)."""
    items = dataset.get("ContributingEquipmentSequence") or ()
    return any(str(item.get("ManufacturerModelName", "")).strip() == NODE_MODEL_NAME for item in items)


def coded(code: tuple[str, str, str]) -> Dataset:
    """Return an item of the Code Sequence Macro (PS3.3 8.8) of (value, scheme, meaning)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def derivation_description(derivation: Derivation, now: datetime, earlier: str) -> str:
    """Say in words what was done to the pixels, for Derivation Description (0008,2111), at most 1024 characters.

    Parameters
    ----------
    derivation : Derivation
        How the source was processed.
    now : datetime
        When.
    earlier : str
        The source's own Derivation Description, which is kept behind ours as far as there is room.
    """
    model = derivation.model
    ours = (
        f"Noise reduced by a neural network: model {model.name} {model.version}, "
        f"SHA-256 {model.digest}, profile {derivation.profile}, {derivation.chosen_strength.text}, "
        f"{NODE_MODEL_NAME} {derivation.node_version}, {now:%Y-%m-%d}.{_caution(derivation)}"
    )
    return f"{ours} Source: {earlier}"[:_ST_MAX_CHARACTERS] if earlier else ours[:_ST_MAX_CHARACTERS]


def contributing_equipment(derivation: Derivation, now: datetime) -> Dataset:
    """Return the node's item of the Contributing Equipment Sequence (0018,A001), PS3.3 C.12.1.1.5."""
    model = derivation.model
    # The digest fills all 64 characters: last, it could be padded to an even length and look too long to some readers.
    versions = (model.digest, f"{model.name} {model.version}", f"{NODE_MODEL_NAME} {derivation.node_version}")
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([coded(PROCESSING_EQUIPMENT)])
    item.Manufacturer = NODE_MANUFACTURER
    item.ManufacturerModelName = NODE_MODEL_NAME
    item.SoftwareVersions = [version[:_LO_MAX_CHARACTERS] for version in versions]
    item.DeviceUID = device_uid(derivation)
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = (
        f"Noise reduction of the pixel data, {derivation.chosen_strength.text}.{_caution(derivation)}"
    )
    for keyword, value in _place(derivation.site).items():
        if value:
            setattr(item, keyword, value)
    return item


def content_qualification(source: Dataset, site: Site) -> str:
    """Return the Content Qualification (0018,9004), PS3.3 C.8.13.2.1.1: what is made of research stays research."""
    is_research = source.get("ContentQualification") in (RESEARCH, "SERVICE")
    return RESEARCH if is_research else site.content_qualification


def _caution(derivation: Derivation) -> str:
    return " Research software, not for diagnosis." if derivation.site.content_qualification == RESEARCH else ""


def _place(site: Site) -> dict[str, str]:
    return {
        "InstitutionName": site.institution_name,
        "InstitutionalDepartmentName": site.department_name,
        "StationName": site.station_name,
    }


def source_image(source: Dataset) -> Dataset:
    """Return the item of the Source Image Sequence (0008,2112) for a slice at the same place (PS3.3 C.7.6.1.1.4)."""
    item = referenced_instance(source)
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = Sequence([coded(SOURCE_IMAGE)])
    return item


def referenced_series(source: Dataset) -> Dataset:
    """Return the item of the Referenced Series Sequence (0008,1115) that names the source (PS3.3 C.12.2)."""
    item = Dataset()
    item.SeriesInstanceUID = source.SeriesInstanceUID
    item.ReferencedInstanceSequence = Sequence([referenced_instance(source)])
    return item


def related_series(source: Dataset) -> Dataset:
    """Return the item of the Related Series Sequence (0008,1250) that names the source series (PS3.3 C.7.3.1)."""
    item = Dataset()
    item.StudyInstanceUID = source.StudyInstanceUID
    item.SeriesInstanceUID = source.SeriesInstanceUID
    item.PurposeOfReferenceCodeSequence = Sequence([coded(SOURCE_SERIES)])
    return item


def referenced_instance(source: Dataset) -> Dataset:
    """Return an item of the SOP Instance Reference Macro (PS3.3 Table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item
