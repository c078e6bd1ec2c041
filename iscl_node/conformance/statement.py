"""Fills the statement's template from the tables that the program itself works with."""

import json
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import Template
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from iscl_node import __version__
from iscl_node.conformance import attributes as attribute_table
from iscl_node.conformance.services import (
    ASKED,
    ASKED_STATUSES,
    COMPREHENSIVE_SR_STORAGE,
    PARAMETRIC_MAP_STORAGE,
    REPORT_STATUSES,
    SCP_STATUSES,
    SCU_STATUSES,
    VERIFICATION,
    accepted_contexts,
    uid_name,
)
from iscl_node.dicom import provenance
from iscl_node.dicom.evidence import noise_map, report
from iscl_node.domain import CT_STORAGE, IMPLEMENTATION_CLASS_UID, SCAN_FACTS, implementation_version_name
from iscl_node.network.patches.pdu_reader import MAXIMUM_PDU_LENGTH
from iscl_node.network.scu.query import MOVED_AT_A_TIME
from iscl_node.settings import Settings

TEMPLATE: Final = Path(__file__).with_name("template.md")

SENT: Final = {
    **dict.fromkeys(CT_STORAGE, "derived from instances of the same class"),
    PARAMETRIC_MAP_STORAGE: "the removed noise, if the rule asks for it",
    COMPREHENSIVE_SR_STORAGE: "the report, if the rule asks for it",
}

CODES: Final[dict[tuple[str | None, ...], str]] = {
    provenance.SMOOTHING: "Derivation Code Sequence (CID 7203)",
    provenance.SOURCE_IMAGE: "Source Image Sequence (CID 7202)",
    provenance.SOURCE_SERIES: "Related Series Sequence (CID 7210)",
    provenance.PROCESSING_EQUIPMENT: "Contributing Equipment Sequence (CID 7005)",
    noise_map.SUBTRACTION: "Parametric Map: Derivation Code Sequence (CID 7203)",
    noise_map.ATTENUATION: "Parametric Map: Quantity Definition Sequence",
    report.HOUNSFIELD_UNIT: "Parametric Map, report: unit",
    report.PERCENT: "report: unit",
    report.NO_UNIT: "report: unit",
    report.CT_EXAMINATION: "report: procedure reported (CID 100)",
    report.ARTIFICIAL_INTELLIGENCE: "report: algorithm family (CID 7162)",
    report.SERIES_UID: "report: the source series",
    **dict.fromkeys(
        (
            *(report.NOISE, report.MEAN, report.IMAGES, report.MEASURED),
            *(report.SHIFT, report.NOISE_REDUCTION, report.STRUCTURE),
        ),
        "report: measurement",
    ),
    report.COMMENT: "report: text",
}
"""Those that the node chooses; the templates that the report follows (TID 1500) bring others."""


def conformance_statement() -> str:
    """Return the DICOM Conformance Statement (PS3.2 Annex N) of this version, in Markdown."""
    return Template(TEMPLATE.read_text()).substitute(
        version=__version__,
        maximum_pdu=MAXIMUM_PDU_LENGTH,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=implementation_version_name(__version__),
        services=_table(_services()),
        accepted=_table(_accepted()),
        scp_statuses=_table((f"{status:04X}", *told) for status, told in SCP_STATUSES.items()),
        report_statuses=_table((f"{status:04X}", *told) for status, told in REPORT_STATUSES.items()),
        sent=_table((uid_name(uid), uid, when) for uid, when in SENT.items()),
        scu_statuses=_table(SCU_STATUSES.items()),
        asked=_table((uid_name(uid), uid, what) for uid, (_, what) in ASKED.items()),
        asked_statuses=_table(ASKED_STATUSES.items()),
        moved_at_a_time=MOVED_AT_A_TIME,
        parameters=_table(parameters(Settings, "")),
        ct_image=_table(_attributes()),
        private=_table((f"{each.group:04X}", f"xx{each.element:02X}", each.creator) for each in SCAN_FACTS),
        own_scheme=report.OWN_SCHEME,
        codes=_table((*code[:3], where) for code, where in CODES.items()),
    )


def _table(rows: Iterable[Iterable[object]]) -> str:
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _services() -> Iterator[tuple[str, str, str, str]]:
    taken = {context.sop_class_uid for context in accepted_contexts()} - set(ASKED)
    for uid in sorted({*taken, *SENT, *ASKED}, key=uid_name):
        service = ASKED[uid][0] if uid in ASKED else "Verification" if uid == VERIFICATION else "Storage"
        is_used = uid in SENT or uid in ASKED or uid == VERIFICATION
        yield service, uid_name(uid), "yes" if is_used else "no", "yes" if uid in taken else "no"


def _accepted() -> Iterator[tuple[str, str, str, str]]:
    for context in accepted_contexts():
        for syntax in context.transfer_syntax_uids:
            yield uid_name(context.sop_class_uid), context.sop_class_uid, uid_name(syntax), syntax


def _attributes() -> Iterator[tuple[str, str, str, str]]:
    for row in attribute_table.CT_IMAGE:
        yield row.module, ", ".join(map(attribute_table.named, row.keywords)), row.treatment, row.how


def parameters(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and meaning of every setting of a section and of the sections in it."""
    for name, field in section.model_fields.items():
        part = _section_of(field.annotation)
        if part is None:
            yield f"`{prefix}{name}`", _default(field), " ".join((field.description or "").split())
        else:
            # Sections that a file may have several times are written with double brackets in TOML.
            key = f"[[{name}]] " if get_origin(field.annotation) is tuple else f"{name}."
            yield from parameters(part, f"{prefix}{key}")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds: itself, or one, or several of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, types.UnionType):
        return next((found for found in map(_section_of, get_args(annotation)) if found is not None), None)
    return None


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "-"
    if field.default == SCAN_FACTS:
        return "see 8.2"
    if field.default is None:
        return "not set"
    if isinstance(field.default, Path):
        return json.dumps(field.default.name)  # the installed bundle lies elsewhere on every machine
    return json.dumps(field.default)
