"""Every audit message has what PS3.15 asks of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from audit_schema import details, faults
from factories import ct_dataset

from iscl_node.audit.messages import Messages, Transfer
from iscl_node.audit.schema import AuditMessage, AuditSource, encoded
from iscl_node.dicom.reading.identity import read_identity
from iscl_node.domain import InstanceIdentity, ModelIdentity

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"
MESSAGES = Messages(
    AuditSource("node-1", "Hospital"), "ISCL_NODE", "ct-node", ModelIdentity("iscl", "1.0", "a" * 64), "b" * 64
)
INSTANCES = [InstanceIdentity("P1", "1.2.3", CT)] * 2 + [InstanceIdentity("P1", "1.2.3", SR)]
TO = Transfer(INSTANCES, "PACS", "10.1.2.3")

Make = Callable[[], AuditMessage]
EVENTS: dict[str, tuple[Make, str, str, str, list[str], set[tuple[str, str]]]] = {
    # how it is made, EventID, EventActionCode, outcome, EventTypeCode, (role, UserID) of each participant
    "start, A.5.3.1": (
        lambda: MESSAGES.application_started(NOON),
        "110100",
        "E",
        "0",
        ["110120"],
        {("110150", "node-1")},
    ),
    "stop, A.5.3.1": (
        lambda: MESSAGES.application_stopped(NOON),
        "110100",
        "E",
        "0",
        ["110121"],
        {("110150", "node-1")},
    ),
    "begin sending, A.5.3.3": (
        lambda: MESSAGES.begin_sending(NOON, TO),
        "110102",
        "E",
        "0",
        [],
        {("110153", "node-1"), ("110152", "PACS")},
    ),
    "export, A.5.3.4": (
        lambda: MESSAGES.exported(NOON, "eve", "file:///mnt/usb", INSTANCES),
        "110106",
        "R",
        "0",
        [],
        {("110153", "eve"), ("110153", "node-1"), ("110154", "file:///mnt/usb")},
    ),
    "used again, A.5.3.6": (
        lambda: MESSAGES.used_again(NOON, "eve", "redone", INSTANCES),
        "110103",
        "R",
        "0",
        ["redone"],
        {("", "eve"), ("", "node-1")},
    ),
    "deleted, A.5.3.6": (
        lambda: MESSAGES.deleted(NOON, "eve", INSTANCES, is_whole_study=False),
        "110103",
        "D",
        "0",
        [],
        {("", "eve"), ("", "node-1")},
    ),
    "whole study deleted, A.5.3.8": (
        lambda: MESSAGES.deleted(NOON, "eve", INSTANCES, is_whole_study=True),
        "110105",
        "D",
        "0",
        [],
        {("", "eve"), ("", "node-1")},
    ),
    "received, A.5.3.7": (
        lambda: MESSAGES.received(NOON, TO),
        "110104",
        "C",
        "0",
        [],
        {("110153", "PACS"), ("110152", "node-1")},
    ),
    "sent, A.5.3.7": (
        lambda: MESSAGES.sent(NOON, TO),
        "110104",
        "R",
        "0",
        [],
        {("110153", "node-1"), ("110152", "PACS")},
    ),
    "refused by the destination, A.5.3.7": (
        lambda: MESSAGES.sent(NOON, Transfer(INSTANCES, "PACS", "10.1.2.3", "peer pacs refused with status C000")),
        "110104",
        "R",
        "8",
        [],
        {("110153", "node-1"), ("110152", "PACS")},
    ),
    "not let in, A.5.3.11": (
        lambda: MESSAGES.authentication_failed(NOON, "10.9.9.9", "EVIL", "calling AE title", 0),
        "110113",
        "E",
        "4",
        ["110126"],
        {("", "node-1"), ("", "EVIL")},
    ),
    "messages lost, A.5.3.11": (
        lambda: MESSAGES.recording_resumed(NOON, 7),
        "110113",
        "E",
        "8",
        ["110134"],
        {("", "node-1")},
    ),
}
WITH_STUDY = [name for name in EVENTS if "A.5.3.1" not in name]


def parsed(message: AuditMessage) -> Element:
    return ElementTree.fromstring(encoded(message))


def codes(parent: Element, name: str) -> list[str]:
    found = parent.findall(name)
    assert {each.attrib["codeSystemName"] for each in found} <= {"DCM", "99ISCLNODE"}
    return [each.attrib["csd-code"] for each in found]


def objects(message: Element, id_type: str) -> list[Element]:
    return [
        each
        for each in message.findall("ParticipantObjectIdentification")
        if each.find("ParticipantObjectIDTypeCode").attrib["csd-code"] == id_type  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("name", EVENTS)
def test_the_event_is_that_of_the_standard(name: str) -> None:
    make, event_id, action, outcome, types, participants = EVENTS[name]
    message = parsed(make())
    assert not faults(message)
    (event,) = message.findall("EventIdentification")
    assert codes(event, "EventID") == [event_id]
    assert codes(event, "EventTypeCode") == types
    assert event.attrib == {
        "EventActionCode": action,
        "EventDateTime": "2026-03-01T12:00:00.000Z",
        "EventOutcomeIndicator": outcome,
    }
    assert (event.find("EventOutcomeDescription") is not None) == (outcome != "0")
    found = message.findall("ActiveParticipant")
    assert {("".join(codes(each, "RoleIDCode")), each.attrib["UserID"]) for each in found} == participants
    assert sum(each.attrib["UserIsRequestor"] == "true" for each in found) <= 1  # A.5.2, UserIsRequestor


@pytest.mark.parametrize("name", EVENTS)
def test_every_message_names_its_source_the_model_and_the_settings(name: str) -> None:
    message = parsed(EVENTS[name][0]())
    (source,) = message.findall("AuditSourceIdentification")
    assert source.attrib == {"AuditEnterpriseSiteID": "Hospital", "AuditSourceID": "node-1"}
    assert {"ModelDigest": "a" * 64, "SettingsDigest": "b" * 64}.items() <= details(message).items()


@pytest.mark.parametrize("name", WITH_STUDY)
def test_a_message_about_instances_names_study_and_patient(name: str) -> None:
    """Tables A.5.3.3-1, A.5.3.4-1, A.5.3.6-1, A.5.3.7-1 and A.5.3.8-1."""
    message = parsed(EVENTS[name][0]())
    (study,) = objects(message, "110180")
    assert study.attrib == {
        "ParticipantObjectID": "1.2.3",
        "ParticipantObjectTypeCode": "2",
        "ParticipantObjectTypeCodeRole": "3",
    }
    counts = {each.attrib["UID"]: each.attrib["NumberOfInstances"] for each in study.iter("SOPClass")}
    assert counts == {CT: "2", SR: "1"}
    (patient,) = objects(message, "2")
    assert patient.attrib == {
        "ParticipantObjectID": "P1",
        "ParticipantObjectTypeCode": "1",
        "ParticipantObjectTypeCodeRole": "1",
    }


def test_an_export_names_the_folder_as_medium() -> None:
    """Table A.5.3.4-1: MediaType where it is no network destination; CID 405."""
    media = parsed(EVENTS["export, A.5.3.4"][0]()).findall("ActiveParticipant")[-1]
    (medium,) = media.findall("MediaIdentifier")
    assert codes(medium, "MediaType") == ["110037"]


@pytest.mark.parametrize(("host", "kind"), [("10.1.2.3", "2"), ("fe80::1%eth0", "2"), ("pacs.hospital.example", "1")])
def test_a_participant_has_its_ae_title_and_address(host: str, kind: str) -> None:
    """A.5.2.2 for the AE titles, A.5.1 for the kinds of network access points."""
    sender, _ = parsed(MESSAGES.received(NOON, Transfer(INSTANCES, "PACS", host))).findall("ActiveParticipant")
    assert sender.attrib == {
        "UserID": "PACS",
        "AlternativeUserID": "AETITLES=PACS",
        "UserIsRequestor": "true",
        "NetworkAccessPointID": host,
        "NetworkAccessPointTypeCode": kind,
    }


def test_an_alert_names_the_caller_and_how_often_it_tried() -> None:
    message = parsed(MESSAGES.authentication_failed(NOON, "10.9.9.9", "", "TLS handshake failed", 41))
    assert details(message)["Alert Description"] == "TLS handshake failed; 41 more since the last message"
    assert objects(message, "110182")[0].attrib["ParticipantObjectID"] == "10.9.9.9"
    assert [each.attrib["UserID"] for each in message.findall("ActiveParticipant")] == ["node-1", "10.9.9.9"]


def test_the_time_is_in_utc_whatever_the_clock() -> None:
    """A.5.2.5."""
    event = parsed(MESSAGES.application_started(NOON.astimezone(timezone(timedelta(hours=9)))))[0]
    assert event.attrib["EventDateTime"] == "2026-03-01T12:00:00.000Z"


@pytest.mark.parametrize("text", ["a\nb", "<&\"'>", "\x00\x1b\ufffe", "Ä\u2028Ö", "\ud800"])
def test_whatever_a_peer_wrote_is_xml_in_one_line(text: str) -> None:
    instances = [InstanceIdentity(text, text, text)]
    data = encoded(MESSAGES.received(NOON, Transfer(instances, text, text)))
    assert len(data.splitlines()) == len(data.decode().splitlines()) == 1
    message = ElementTree.fromstring(data)
    for letter in text:
        if letter.isprintable():
            assert letter in message.findall("ParticipantObjectIdentification")[1].attrib["ParticipantObjectID"]


def test_identity_is_read_from_a_file(tmp_path: Path) -> None:
    dataset = ct_dataset(PatientID=" Ä7 ", StudyInstanceUID="1.2.3")
    dataset.file_meta.SourceApplicationEntityTitle = "SCANNER"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    identity = read_identity(tmp_path / "a.dcm")
    assert identity == InstanceIdentity("Ä7", "1.2.3", CT, "SCANNER")
    assert "Ä7" not in repr(identity)


def test_identity_that_is_not_there_is_empty(tmp_path: Path) -> None:
    dataset = ct_dataset()
    del dataset.PatientID
    dataset.StudyInstanceUID = None
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert read_identity(tmp_path / "a.dcm") == InstanceIdentity("", "", CT)
