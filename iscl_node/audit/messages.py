"""The audit messages of the node, each from its facts (PS3.15 A.5.3; the codes are those of PS3.16 CID 400 to 405)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from iscl_node.audit.schema import (
    Action,
    AuditMessage,
    AuditSource,
    Code,
    Event,
    Outcome,
    Participant,
    ParticipantObject,
)
from iscl_node.domain import InstanceIdentity, ModelIdentity

APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
BEGIN_TRANSFERRING: Final = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED: Final = Code("110105", "DICOM Study Deleted")
EXPORT: Final = Code("110106", "Export")
SECURITY_ALERT: Final = Code("110113", "Security Alert")

_APPLICATION_START: Final = Code("110120", "Application Start")
_APPLICATION_STOP: Final = Code("110121", "Application Stop")
_NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
_RECORDING_STARTED: Final = Code("110134", "Audit Recording Started")

_APPLICATION: Final = Code("110150", "Application")
_DESTINATION: Final = Code("110152", "Destination Role ID")
_SOURCE: Final = Code("110153", "Source Role ID")
_DESTINATION_MEDIA: Final = Code("110154", "Destination Media")
_URI: Final = Code("110037", "URI")

_STUDY_INSTANCE_UID: Final = Code("110180", "Study Instance UID")
_NODE_ID: Final = Code("110182", "Node ID")
_PATIENT_NUMBER: Final = Code("2", "Patient Number", "RFC-3881")
_DECISIONS: Final = {
    "redone": Code("redone", "A delivered series made anew", "99ISCLNODE"),
    "resent": Code("resent", "A delivered series sent once more", "99ISCLNODE"),
}
_CONFIGURATION: Final = Code("configuration", "Model and settings of the node", "99ISCLNODE")

_PERSON, _SYSTEM_OBJECT = "1", "2"
"""Participant Object Type Codes (PS3.15 A.5.1)."""
_PATIENT, _REPORT, _SECURITY_RESOURCE, _PROCESSING_ELEMENT = "1", "3", "13", "26"
"""Participant Object Type Code Roles (PS3.15 A.5.1); a study is a report (A.5.3.7)."""


@dataclass(frozen=True)
class Transfer:
    """Instances of one patient that went from one application entity to another, or were to go."""

    instances: Sequence[InstanceIdentity]
    peer_ae_title: str
    peer_address: str
    failure: str = ""
    """Why they did not go; without patient data."""


class Messages:
    """Makes the messages of one node.

    Every message holds, as an object of its own (PS3.15 A.5 allows such extensions), which model and which settings the
    node runs with: the name and version of the model, and the digests of both as ``ParticipantObjectDetail``.

    Parameters
    ----------
    source : AuditSource
        The program that reports.
    ae_title, address : str
        Of the node.
    model : ModelIdentity
        In use; of a command that loads none, empty.
    settings_digest : str
        SHA-256 of the settings, in hexadecimal.
    """

    def __init__(
        self, source: AuditSource, ae_title: str, address: str, model: ModelIdentity, settings_digest: str
    ) -> None:
        self._source = source
        self._node = partial(Participant, source.identity, ae_titles=(ae_title,), address=address)
        details = {"ModelDigest": model.digest, "SettingsDigest": settings_digest}
        self._configuration = ParticipantObject(
            _CONFIGURATION,
            settings_digest,
            _SYSTEM_OBJECT,
            _PROCESSING_ELEMENT,
            f"{model.name} {model.version}".strip() or "no model",
            details,
        )

    def application_started(self, time: datetime) -> AuditMessage:
        """The node starts (A.5.3.1)."""
        return self._application_activity(time, _APPLICATION_START)

    def application_stopped(self, time: datetime) -> AuditMessage:
        """The node stops (A.5.3.1)."""
        return self._application_activity(time, _APPLICATION_STOP)

    def _application_activity(self, time: datetime, kind: Code) -> AuditMessage:
        event = Event(APPLICATION_ACTIVITY, Action.EXECUTE, time, types=(kind,))
        return self._message(event, [self._node(roles=(_APPLICATION,))])

    def received(self, time: datetime, transfer: Transfer) -> AuditMessage:
        """What a peer stored here (A.5.3.7)."""
        event = Event(INSTANCES_TRANSFERRED, Action.CREATE, time)
        peer = Participant(transfer.peer_ae_title, (_SOURCE,), True, (transfer.peer_ae_title,), transfer.peer_address)
        return self._message(event, [peer, self._node(roles=(_DESTINATION,))], _contents(transfer.instances))

    def begin_sending(self, time: datetime, transfer: Transfer) -> AuditMessage:
        """What is to be sent to a peer (A.5.3.3)."""
        return self._sending(Event(BEGIN_TRANSFERRING, Action.EXECUTE, time), transfer)

    def sent(self, time: datetime, transfer: Transfer) -> AuditMessage:
        """What was sent to a peer, or refused by it (A.5.3.7); whether it had them before is not known: Read."""
        outcome = Outcome.SERIOUS_FAILURE if transfer.failure else Outcome.SUCCESS
        return self._sending(Event(INSTANCES_TRANSFERRED, Action.READ, time, outcome, transfer.failure), transfer)

    def _sending(self, event: Event, transfer: Transfer) -> AuditMessage:
        peer = Participant(
            transfer.peer_ae_title, (_DESTINATION,), False, (transfer.peer_ae_title,), transfer.peer_address
        )
        sender = self._node(roles=(_SOURCE,), is_requestor=True)
        return self._message(event, [sender, peer], _contents(transfer.instances))

    def authentication_failed(
        self, time: datetime, host: str, ae_title: str, reason: str, repetitions: int
    ) -> AuditMessage:
        """A caller who was not let in (A.5.3.11): the node did protect itself, so it is a minor failure.

        ``repetitions`` is how often the same was refused since the message before, without a message.
        """
        description = f"{reason}; {repetitions} more since the last message" if repetitions else reason
        event = Event(SECURITY_ALERT, Action.EXECUTE, time, Outcome.MINOR_FAILURE, description, (_NODE_AUTHENTICATION,))
        caller = Participant(ae_title or host, ae_titles=(ae_title,) if ae_title else (), address=host)
        subject = self._alert_subject(host, description)
        return self._message(event, [self._node(), caller], [subject])

    def recording_resumed(self, time: datetime, lost: int) -> AuditMessage:
        """Messages were lost, and now there is room again (A.5.3.11): a serious failure."""
        description = f"{lost} audit messages were lost before this one: the trail was full"
        event = Event(SECURITY_ALERT, Action.EXECUTE, time, Outcome.SERIOUS_FAILURE, description, (_RECORDING_STARTED,))
        return self._message(event, [self._node()], [self._alert_subject(self._source.identity, description)])

    def _alert_subject(self, node: str, description: str) -> ParticipantObject:
        details = {"Alert Description": description}
        return ParticipantObject(_NODE_ID, node, _SYSTEM_OBJECT, _SECURITY_RESOURCE, details=details)

    def exported(self, time: datetime, user: str, folder: str, instances: Sequence[InstanceIdentity]) -> AuditMessage:
        """A person copied instances to a folder, a ``file:`` URI (A.5.3.4)."""
        participants = [
            Participant(user, (_SOURCE,), is_requestor=True),
            self._node(roles=(_SOURCE,)),
            Participant(folder, (_DESTINATION_MEDIA,), media_type=_URI),
        ]
        return self._message(Event(EXPORT, Action.READ, time), participants, _contents(instances))

    def used_again(
        self, time: datetime, user: str, decision: str, instances: Sequence[InstanceIdentity]
    ) -> AuditMessage:
        """A person had delivered instances processed, ``redone``, or sent once more, ``resent`` (A.5.3.6)."""
        event = Event(INSTANCES_ACCESSED, Action.READ, time, types=(_DECISIONS[decision],))
        return self._message(event, [Participant(user, is_requestor=True), self._node()], _contents(instances))

    def deleted(
        self, time: datetime, user: str, instances: Sequence[InstanceIdentity], is_whole_study: bool
    ) -> AuditMessage:
        """A person deleted instances of one study (A.5.3.6), or all that the node had of it (A.5.3.8)."""
        event = Event(STUDY_DELETED if is_whole_study else INSTANCES_ACCESSED, Action.DELETE, time)
        return self._message(event, [Participant(user, is_requestor=True), self._node()], _contents(instances))

    def _message(
        self, event: Event, participants: Sequence[Participant], objects: Iterable[ParticipantObject] = ()
    ) -> AuditMessage:
        return AuditMessage(event, participants, self._source, [*objects, self._configuration])


def _contents(instances: Sequence[InstanceIdentity]) -> list[ParticipantObject]:
    """The studies, each with its instances by SOP Class, and the patients."""
    studies: dict[str, Counter[str]] = {}
    for each in instances:
        studies.setdefault(each.study_instance_uid, Counter())[each.sop_class_uid] += 1
    patients = dict.fromkeys(each.patient_id for each in instances)
    return [*(_study(uid, counts) for uid, counts in studies.items()), *map(_patient, patients)]


def _study(uid: str, counts: Mapping[str, int]) -> ParticipantObject:
    return ParticipantObject(_STUDY_INSTANCE_UID, uid, _SYSTEM_OBJECT, _REPORT, sop_classes=counts)


def _patient(patient_id: str) -> ParticipantObject:
    """By the ID alone: the name is not needed to find the patient."""
    return ParticipantObject(_PATIENT_NUMBER, patient_id, _PERSON, _PATIENT)
