"""How good a derived series is, as a Measurement Report (PS3.16 TID 1500).

It is a Comprehensive SR (PS3.3 A.35.3), the class that viewers read best: Orthanc's Stone viewer, for one, shows it
since 2023 and the others since 2025. Three groups of measurements (TID 1501): of the source, of the derived series,
and of the change with the model that made it. All instances are listed as evidence; an Image Library (TID 1600) of a
thousand slices would only stand before the dozen numbers.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Items
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from iscl_node.dicom import provenance
from iscl_node.dicom.evidence.measurements import (
    MEAN_METHOD,
    NOISE_METHOD,
    STRUCTURE_METHOD,
    ImageMeasurements,
    SeriesMeasurements,
)
from iscl_node.dicom.evidence.objects import (
    REPORT,
    equipment_for_highdicom,
    finished,
    identity_for_highdicom,
    instance_uid,
    series_uid,
)
from iscl_node.dicom.uids import device_uid, hashed_uid
from iscl_node.domain import Derivation

if TYPE_CHECKING:  # highdicom takes a second to import
    from highdicom.sr import AlgorithmIdentification, Measurement, MeasurementReport
    from highdicom.sr import MeasurementsAndQualitativeEvaluations as Group

DECIMALS: Final = 3

CT_EXAMINATION: Final = Code("25045-6", "LN", "CT unspecified body region")
"""CID 100."""
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
"""CID 7162."""
SERIES_UID: Final = Code("112002", "DCM", "Series Instance UID")
COMMENT: Final = Code("121106", "DCM", "Comment")

OWN_SCHEME: Final = "99ISCLNODE"
"""Coding scheme of what no public scheme has; private by its first characters (PS3.16 chapter 8)."""
NOISE: Final = Code("112183", "DCM", "Standard Deviation of Attenuation Coefficient")
MEAN: Final = Code("112181", "DCM", "Mean Attenuation Coefficient")
IMAGES: Final = Code("images", OWN_SCHEME, "Number of images")
MEASURED: Final = Code("measured", OWN_SCHEME, "Number of images in which noise was measured")
SHIFT: Final = Code("mean-shift", OWN_SCHEME, "Shift of the mean attenuation coefficient of soft tissue")
NOISE_REDUCTION: Final = Code("noise-reduction", OWN_SCHEME, "Noise reduction")
STRUCTURE: Final = Code("residual-structure", OWN_SCHEME, "Part of the edges' contrast in the removed noise")

HOUNSFIELD_UNIT: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT: Final = Code("%", "UCUM", "Percent")
NO_UNIT: Final = Code("1", "UCUM", "no units")

NOT_MEASURED: Final = "No image holds enough soft tissue to measure noise. "
DISCLAIMER: Final = "Computed without a person's review. Research software, not for diagnosis."


def report_uid(sources: Items[Dataset], derivation: Derivation) -> str:
    """Return the SOP Instance UID of the report on what became of these source instances."""
    return instance_uid(sources, REPORT, derivation)


def report(
    sources: Items[Dataset],
    derived: Items[Dataset],
    measurements: SeriesMeasurements,
    derivation: Derivation,
    started: datetime,
) -> FileDataset:
    """Build the report on a derived series.

    Parameters
    ----------
    sources, derived : sequence of Dataset
        The instances of both series; their pixels are not looked at.
    measurements : SeriesMeasurements
        What was measured.
    derivation : Derivation
        How the source was processed.
    started : datetime
        When work on the derived series started; see :func:`evidence.finished`.

    Returns
    -------
    FileDataset
        Numbers are rounded to 3 decimals.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR

    made = ComprehensiveSR(
        evidence=[_stub(instance) for instance in (*sources, *derived)],
        content=_content(sources[0], derived[0], measurements, derivation)[0],
        series_instance_uid=series_uid(sources[0], REPORT, derivation),
        series_number=1,
        sop_instance_uid=report_uid(sources, derivation),
        instance_number=1,
        is_complete=True,
        is_final=True,
        coding_schemes=[CodingSchemeIdentificationItem(OWN_SCHEME, name=f"{provenance.NODE_MODEL_NAME} private codes")],
        **equipment_for_highdicom(derivation),
    )
    _separate(made)
    return finished(made, sources[0], REPORT, derivation, started)


def _separate(container: Dataset) -> None:
    """Say that the content is a list of items (PS3.3 C.17.3.2.4); highdicom says prose, and viewers leave names out."""
    for item in container.get("ContentSequence") or ():
        _separate(item)
    if container.ValueType == "CONTAINER":
        container.ContinuityOfContent = "SEPARATE"


def _stub(instance: Dataset) -> Dataset:
    stub = Dataset()
    for keyword, value in identity_for_highdicom(instance).items():
        setattr(stub, keyword, value)
    return stub


def _content(
    source: Dataset, derived: Dataset, measurements: SeriesMeasurements, derivation: Derivation
) -> "MeasurementReport":
    from highdicom.sr import CodedConcept, MeasurementReport, ObservationContext, ObserverContext
    from highdicom.sr.templates import DeviceObserverIdentifyingAttributes

    device = DeviceObserverIdentifyingAttributes(
        uid=str(device_uid(derivation)),
        name=f"{provenance.NODE_MODEL_NAME} {derivation.node_version}",
        manufacturer_name=provenance.NODE_MANUFACTURER,
        model_name=provenance.NODE_MODEL_NAME,
    )
    observer = ObserverContext(CodedConcept("121007", "DCM", "Device"), device)
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=CT_EXAMINATION,
        imaging_measurements=[
            _image_group("Source series", source, measurements.source, derivation),
            _image_group("Derived series", derived, measurements.derived, derivation),
            _change_group(derived, measurements, derivation),
        ],
    )


def _image_group(title: str, instance: Dataset, measured: ImageMeasurements, derivation: Derivation) -> "Group":
    values = [
        _measurement(NOISE, measured.noise_hu, HOUNSFIELD_UNIT, _method(NOISE_METHOD, derivation)),
        _measurement(MEAN, measured.mean_hu, HOUNSFIELD_UNIT, _method(MEAN_METHOD, derivation)),
    ]
    group = _group(title, instance, values)
    _append_context(group, str(instance.SeriesInstanceUID))
    return group


def _change_group(derived: Dataset, measurements: SeriesMeasurements, derivation: Derivation) -> "Group":
    from highdicom.sr import AlgorithmIdentification

    model = derivation.model
    algorithm = AlgorithmIdentification(
        name=f"ISCL, model {model.name}",
        version=model.version,
        parameters=[
            f"model SHA-256 {model.digest}",
            f"profile {derivation.profile}",
            derivation.chosen_strength.text,
            f"{provenance.NODE_MODEL_NAME} {derivation.node_version}",
        ],
        family=ARTIFICIAL_INTELLIGENCE,
    )
    group = _group("Change by noise reduction", derived, _changes(measurements, derivation), algorithm)
    _append_comment(group, ("" if measurements.measured else NOT_MEASURED) + DISCLAIMER)
    return group


def _changes(measurements: SeriesMeasurements, derivation: Derivation) -> "list[Measurement | None]":
    percent = None if measurements.noise_reduction is None else 100 * measurements.noise_reduction
    return [
        _measurement(IMAGES, measurements.images, NO_UNIT),
        _measurement(MEASURED, measurements.measured, NO_UNIT),
        _measurement(NOISE_REDUCTION, percent, PERCENT, _method(NOISE_METHOD, derivation)),
        _measurement(SHIFT, measurements.mean_shift_hu, HOUNSFIELD_UNIT, _method(MEAN_METHOD, derivation)),
        _measurement(STRUCTURE, measurements.structure, NO_UNIT, _method(STRUCTURE_METHOD, derivation)),
    ]


def _group(
    title: str,
    instance: Dataset,
    values: "Iterable[Measurement | None]",
    algorithm: "AlgorithmIdentification | None" = None,
) -> "Group":
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    # highdicom would draw a UID, and no two reports on the same series would be equal.
    uid = str(hashed_uid("iscl-node measurement group", title, str(instance.SeriesInstanceUID)))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=title),
        algorithm_id=algorithm,
        measurements=[value for value in values if value is not None],
    )


def _measurement(
    name: Code, value: float | None, unit: Code, method: "AlgorithmIdentification | None" = None
) -> "Measurement | None":
    from highdicom.sr import Measurement

    if value is None:
        return None
    return Measurement(name=name, value=round(value, DECIMALS), unit=unit, algorithm_id=method)


def _method(description: str, derivation: Derivation) -> "AlgorithmIdentification":
    """How a number was computed (TID 4019); the node's version is that of its code."""
    from highdicom.sr import AlgorithmIdentification

    return AlgorithmIdentification(name=description, version=f"{provenance.NODE_MODEL_NAME} {derivation.node_version}")


def _append_context(group: "Group", uid: str) -> None:
    """Name the series that a group is about; TID 1501 is extensible.

    Not by a UID that breaks the rules (PS3.5 9.1), as some anonymizers make them: DCMTK would refuse the document. The
    evidence lists it all the same.
    """
    if not UID(uid).is_valid:
        return
    from highdicom.sr import RelationshipTypeValues, UIDRefContentItem

    item = UIDRefContentItem(SERIES_UID, uid, relationship_type=RelationshipTypeValues.HAS_OBS_CONTEXT)
    _items(group).append(item)


def _append_comment(group: "Group", text: str) -> None:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    _items(group).append(TextContentItem(COMMENT, text, relationship_type=RelationshipTypeValues.CONTAINS))


def _items(group: "Group") -> Any:
    return group[0].ContentSequence
