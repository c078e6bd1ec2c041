"""An audit message and its XML, as the schema of PS3.15 A.5.1 has it."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""Control characters, which XML 1.0 (2.2) has no room for or a line would end at; and what is no character."""


@dataclass(frozen=True)
class Code:
    """A coded value (PS3.15 A.5.1.1); ``system`` is DCM for those of PS3.16 Annex D."""

    value: str
    meaning: str
    system: str = "DCM"


class Action(StrEnum):
    """Event Action Code."""

    CREATE = "C"
    READ = "R"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(StrEnum):
    """Event Outcome Indicator."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    """The action is tried again; of a security alert: what was meant to protect did."""
    SERIOUS_FAILURE = "8"
    """The action ended without success."""


@dataclass(frozen=True)
class Event:
    """What happened, and when."""

    code: Code
    action: Action
    time: datetime
    outcome: Outcome = Outcome.SUCCESS
    outcome_description: str = ""
    types: Sequence[Code] = ()


@dataclass(frozen=True)
class Participant:
    """Who took part: a person, a program or a medium (PS3.15 A.5.2.1 to A.5.2.4).

    ``ae_titles`` are alternative identities; ``address`` is an IP address or a host's name.
    """

    user_id: str
    roles: Sequence[Code] = ()
    is_requestor: bool = False
    ae_titles: Sequence[str] = ()
    address: str = ""
    media_type: Code | None = None


@dataclass(frozen=True)
class ParticipantObject:
    """What the event was about.

    ``type_code`` and ``role`` are those of PS3.15 A.5.1.2.2, ``details`` values by type, ``sop_classes`` numbers of
    instances by SOP Class UID.
    """

    id_type: Code
    identity: str = field(repr=False)
    type_code: str
    role: str
    name: str = field(default="", repr=False)
    details: Mapping[str, str] = field(default_factory=dict)
    sop_classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditSource:
    """Which program reports the event; ``site`` is left out when it is empty."""

    identity: str
    site: str = ""


@dataclass(frozen=True)
class AuditMessage:
    """A whole message."""

    event: Event
    participants: Sequence[Participant]
    source: AuditSource
    objects: Sequence[ParticipantObject]


def encoded(message: AuditMessage) -> bytes:
    """The message as XML in UTF-8, in one line and without a declaration, as a syslog message carries it."""
    root = Element("AuditMessage")
    _add_event(root, message.event)
    for participant in message.participants:
        _add_participant(root, participant)
    _add_source(root, message.source)
    for each in message.objects:
        _add_object(root, each)
    return ElementTree.tostring(root, encoding="unicode").encode()


def _add_event(root: Element, event: Event) -> None:
    element = _added(
        root,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=event.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        EventOutcomeIndicator=event.outcome,
    )
    _add_code(element, "EventID", event.code)
    for each in event.types:
        _add_code(element, "EventTypeCode", each)
    if event.outcome_description:
        SubElement(element, "EventOutcomeDescription").text = _clean(event.outcome_description)


def _add_participant(root: Element, participant: Participant) -> None:
    attributes = {"UserID": participant.user_id}
    if participant.ae_titles:
        attributes["AlternativeUserID"] = f"AETITLES={';'.join(participant.ae_titles)}"
    attributes["UserIsRequestor"] = str(participant.is_requestor).lower()
    if participant.address:
        attributes["NetworkAccessPointID"] = participant.address
        attributes["NetworkAccessPointTypeCode"] = "2" if _is_ip_address(participant.address) else "1"
    element = _added(root, "ActiveParticipant", **attributes)
    for role in participant.roles:
        _add_code(element, "RoleIDCode", role)
    if participant.media_type is not None:
        _add_code(SubElement(element, "MediaIdentifier"), "MediaType", participant.media_type)


def _add_source(root: Element, source: AuditSource) -> None:
    attributes = {"AuditEnterpriseSiteID": source.site} if source.site else {}
    element = _added(root, "AuditSourceIdentification", **attributes, AuditSourceID=source.identity)
    _added(element, "AuditSourceTypeCode", **{"csd-code": _APPLICATION_SERVER})


_APPLICATION_SERVER = "4"
"""Audit Source Type Code (PS3.15 A.5.1.2.1)."""


def _add_object(root: Element, each: ParticipantObject) -> None:
    element = _added(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=each.identity,
        ParticipantObjectTypeCode=each.type_code,
        ParticipantObjectTypeCodeRole=each.role,
    )
    _add_code(element, "ParticipantObjectIDTypeCode", each.id_type)
    SubElement(element, "ParticipantObjectName").text = _clean(each.name or each.identity)  # the schema wants one
    for kind, value in each.details.items():
        data = b64encode(value.encode("utf-8", "replace")).decode()
        _added(element, "ParticipantObjectDetail", type=kind, value=data)
    if each.sop_classes:
        description = SubElement(element, "ParticipantObjectDescription")
        for uid, count in each.sop_classes.items():
            _added(description, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _add_code(parent: Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    _added(parent, name, **attributes)


def _added(parent: Element, name: str, **attributes: str) -> Element:
    return SubElement(parent, name, {key: _clean(value) for key, value in attributes.items()})


def _clean(text: str) -> str:
    """Without what XML cannot hold: it comes from other machines."""
    return _NOT_IN_A_LINE.sub("\N{REPLACEMENT CHARACTER}", text)


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
