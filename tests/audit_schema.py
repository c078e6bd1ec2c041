"""The schema of PS3.15 A.5.1 as a table of its own: what each element may and must have, and in which order.

The standard's text is NEMA's, so it is not here; the table is compared with it by hand, through
``lxml.etree.RelaxNG.from_rnc_string``, when either changes.
"""

import base64
import re
from xml.etree import ElementTree

TOKEN = r".*"
SOME = r".+"
CODE = {"csd-code": SOME, "codeSystemName": SOME, "originalText": SOME}
DATE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"

ELEMENTS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "AuditMessage": (
        {},
        {},
        "EventIdentification (ActiveParticipant )+AuditSourceIdentification (ParticipantObjectIdentification )*",
    ),
    "EventIdentification": (
        {"EventDateTime": DATE_TIME, "EventOutcomeIndicator": "0|4|8|12"},
        {"EventActionCode": "[CRUDE]"},
        "EventID (EventTypeCode )*(EventOutcomeDescription )?",
    ),
    "EventID": (CODE, {}, ""),
    "EventTypeCode": (CODE, {}, ""),
    "EventOutcomeDescription": ({}, {}, ""),
    "ActiveParticipant": (
        {"UserID": TOKEN, "UserIsRequestor": "true|false"},
        {
            "AlternativeUserID": TOKEN,
            "UserName": TOKEN,
            "NetworkAccessPointID": TOKEN,
            "NetworkAccessPointTypeCode": "[1-5]",
        },
        "(RoleIDCode )*(MediaIdentifier )?",
    ),
    "RoleIDCode": (CODE, {}, ""),
    "MediaIdentifier": ({}, {}, "MediaType "),
    "MediaType": (CODE, {}, ""),
    "AuditSourceIdentification": (
        {"AuditSourceID": TOKEN},
        {"AuditEnterpriseSiteID": TOKEN},
        "(AuditSourceTypeCode )*",
    ),
    "AuditSourceTypeCode": ({"csd-code": "[1-9]"}, {}, ""),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID": TOKEN},
        {
            "ParticipantObjectTypeCode": "[1-4]",
            "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
            "ParticipantObjectDataLifeCycle": "[1-9]|1[0-5]",
            "ParticipantObjectSensitivity": TOKEN,
        },
        "ParticipantObjectIDTypeCode (ParticipantObjectName |ParticipantObjectQuery )"
        "(ParticipantObjectDetail )*(ParticipantObjectDescription )*",
    ),
    "ParticipantObjectIDTypeCode": (CODE, {}, ""),
    "ParticipantObjectName": ({}, {}, ""),
    "ParticipantObjectDetail": ({"type": SOME, "value": r"[A-Za-z0-9+/]*={0,2}"}, {}, ""),
    "ParticipantObjectDescription": (
        {},
        {},
        "(MPPS )*(Accession )*(SOPClass )*(ParticipantObjectContainsStudy )?(Encrypted )?(Anonymized )?",
    ),
    "SOPClass": ({"NumberOfInstances": r"\d+"}, {"UID": r"[\d.]*"}, "(Instance )*"),
}
"""By element: attributes that it must have and those that it may have, with a pattern, and its children."""


def faults(element: ElementTree.Element) -> list[str]:
    """What is wrong with an element and all in it."""
    required, optional, children = ELEMENTS[element.tag]
    found = [f"{element.tag} has no {name}" for name in required if name not in element.attrib]
    for name, value in element.attrib.items():
        pattern = {**required, **optional}.get(name)
        if pattern is None or re.fullmatch(pattern, value) is None:
            found.append(f"{element.tag} {name}={value!r}")
    names = "".join(f"{child.tag} " for child in element)
    if re.fullmatch(children, names) is None:
        found.append(f"{element.tag} holds {names!r}")
    return found + [fault for child in element for fault in faults(child)]


def details(message: ElementTree.Element) -> dict[str, str]:
    """All details of a message, decoded."""
    return {
        detail.attrib["type"]: base64.b64decode(detail.attrib["value"]).decode()
        for detail in message.iter("ParticipantObjectDetail")
    }
