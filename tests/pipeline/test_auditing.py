"""What the audit trail is told of batches: the right facts, once, and no fault of it reaches a batch."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from factories import ct_dataset, part10
from prometheus_client import CollectorRegistry

from iscl_node.assembly.auditing import RunningTrail
from iscl_node.audit.messages import Messages
from iscl_node.audit.schema import AuditMessage, AuditSource, encoded
from iscl_node.domain import (
    Arrival,
    AuditPlan,
    Batch,
    InstanceReference,
    ModelIdentity,
    Peer,
    ReceivedInstance,
    StoreAnswer,
)
from iscl_node.metrics import Metrics
from iscl_node.network.refusals import Refusal
from iscl_node.pipeline.audit.what_happened import AuditTrail, deletion_messages
from iscl_node.pipeline.reception.receive import reception
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.spool import Spool

MESSAGES = Messages(AuditSource("node-1"), "ISCL_NODE", "ct-node", ModelIdentity("m", "1", "a"), "b")
PACS = Peer("pacs", "PACS", "pacs.hospital.example", 104)
SERIES = "1.2.3"


class Recorded(list[AuditMessage]):
    """A trail that keeps what it is told."""

    def xml(self) -> list[Element]:
        return [ElementTree.fromstring(encoded(each)) for each in self]

    def ids(self) -> list[set[tuple[str, str]]]:
        """Of each message, what its objects are and their IDs, without the configuration."""
        return [
            {
                (each[0].attrib["csd-code"], each.attrib["ParticipantObjectID"])
                for each in message.findall("ParticipantObjectIdentification")
                if each[0].attrib["csd-code"] != "configuration"
            }
            for message in self.xml()
        ]


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def audit(spool: Spool, recorded: Recorded) -> AuditTrail:
    return AuditTrail(spool, MESSAGES, recorded.append, [PACS], lambda: None)


Receive = Callable[..., Arrival]


@pytest.fixture
def receive(spool: Spool, audit: AuditTrail, metrics: Metrics) -> Callable[..., None]:
    """Receive one instance; arguments are its attributes, and who sends it."""
    take = reception(spool, metrics, audit)

    def receive_one(number: int, calling: str = "SCANNER", address: str = "10.1.1.1", **attributes: object) -> None:
        dataset = ct_dataset(SeriesInstanceUID=SERIES, SOPInstanceUID=f"{SERIES}.{number}", **attributes)
        dataset.file_meta.SourceApplicationEntityTitle = calling
        take(ReceivedInstance(part10(dataset), calling, address))

    return receive_one


def closed(spool: Spool) -> Batch:
    return spool.close(SERIES, datetime.now(UTC))


def test_a_batch_is_recorded_for_each_sender_and_patient(
    spool: Spool, audit: AuditTrail, recorded: Recorded, receive: Callable[..., None]
) -> None:
    receive(1, PatientID="P1", StudyInstanceUID="1.9")
    receive(2, PatientID="P1", StudyInstanceUID="1.9")
    receive(3, PatientID="P2", StudyInstanceUID="1.8")
    receive(4, "PACS", "10.2.2.2", PatientID="P1", StudyInstanceUID="1.9")
    audit.received(closed(spool))
    assert recorded.ids() == [{("110180", "1.9"), ("2", "P1")}] * 2 + [{("110180", "1.8"), ("2", "P2")}]
    senders = [message.find("ActiveParticipant") for message in recorded.xml()]
    assert [(each.attrib["UserID"], each.attrib["NetworkAccessPointID"]) for each in senders if each is not None] == [
        ("SCANNER", "10.1.1.1"),
        ("PACS", "10.2.2.2"),
        ("SCANNER", "10.1.1.1"),
    ]


def test_after_a_restart_the_address_is_that_of_the_settings(
    spool: Spool, recorded: Recorded, receive: Callable[..., None]
) -> None:
    receive(1, "PACS", "10.2.2.2")
    receive(2)
    AuditTrail(spool, MESSAGES, recorded.append, [PACS], lambda: None).received(closed(spool))
    addresses = [message.find("ActiveParticipant").attrib.get("NetworkAccessPointID") for message in recorded.xml()]  # type: ignore[union-attr]
    assert addresses == ["pacs.hospital.example", None]


def test_a_batch_is_recorded_once_however_often_it_is_begun(
    spool: Spool, audit: AuditTrail, recorded: Recorded, receive: Callable[..., None]
) -> None:
    receive(1)
    batch = closed(spool)
    audit.received(batch)
    spool.quarantine(batch, "no rule")
    (again,) = spool.requeue(SERIES, datetime.now(UTC))
    audit.received(again)
    assert len(recorded) == 1


def test_a_conflict_is_recorded_when_it_comes(
    spool: Spool, audit: AuditTrail, recorded: Recorded, receive: Callable[..., None]
) -> None:
    receive(1, PatientID="P1")
    receive(1, PatientID="P2")
    assert [("2", "P2") in each for each in recorded.ids()] == [True]


def test_what_is_sent_and_refused_is_recorded(spool: Spool, audit: AuditTrail, recorded: Recorded) -> None:
    batch = Batch(SERIES, "20260301T120000.000000Z")
    spool.write_derived(batch, "2.25.1", "2.25.2", part10(ct_dataset(PatientID="P1", StudyInstanceUID="1.9")))
    made = audit.begin_sending(batch, "pacs")
    assert made == ["2.25.2"]
    audit.sent(batch, "pacs", made, "")
    audit.sent(batch, "pacs", made, "peer pacs refused with status C000")
    audit.sent(batch, "gone", made, "destination 'gone' is gone")
    assert recorded.ids() == [{("110180", "1.9"), ("2", "P1")}] * 4
    told = [(each.event.code.value, each.event.outcome.value, each.participants[1].user_id) for each in recorded]
    assert told == [
        ("110102", "0", "PACS"),
        ("110104", "0", "PACS"),
        ("110104", "8", "PACS"),
        ("110104", "8", "gone"),
    ]


def test_what_is_sent_again_is_recorded_and_nothing_else(
    spool: Spool, receive: Receive, audit: AuditTrail, recorded: Recorded
) -> None:
    receive(1)
    batch = closed(spool)
    for number in (1, 2):
        derived = part10(ct_dataset(PatientID=f"P{number}", StudyInstanceUID="1.9"))
        spool.write_derived(batch, "2.25.1", f"2.25.2.{number}", derived)
    answers = [StoreAnswer(InstanceReference("1.2", f"2.25.2.{number}"), 0x0000, True) for number in (1, 2)]
    Deliveries(spool.root).note_answers(batch, "pacs", answers)
    Deliveries(spool.root).note_missing(batch, "pacs", {"2.25.2.2": "0112"}, 1)
    lacking = audit.begin_sending(batch, "pacs")
    assert lacking == ["2.25.2.2"]
    audit.sent(batch, "pacs", lacking, "")
    assert recorded.ids() == [{("110180", "1.9"), ("2", "P2")}] * 2
    assert [each.event.code.value for each in recorded] == ["110102", "110104"]


@pytest.mark.fault(
    "machine",
    "an instance cannot be read for its audit message, or the trail fails",
    "the batch goes on; it is logged, and a lost message counted",
)
def test_no_fault_of_the_trail_reaches_the_batch(spool: Spool, recorded: Recorded) -> None:
    folder = spool.root / "open" / SERIES
    folder.mkdir()
    (folder / f"{SERIES}.1.dcm").write_bytes(b"garbage" * 100)
    (folder / f"{SERIES}.2.dcm").symlink_to("nowhere")
    batch = closed(spool)

    def fail(_: AuditMessage) -> None:
        raise RuntimeError

    lost: list[str] = []
    AuditTrail(spool, MESSAGES, fail, [], lambda: lost.append("the trail fails")).received(batch)
    assert lost == ["the trail fails"]
    audit = AuditTrail(spool, MESSAGES, recorded.append, [], lambda: lost.append("the batch is gone"))
    audit.received(batch)
    assert recorded.ids() == [{("110180", ""), ("2", "")}]
    audit.received(Batch("1.9", "gone"))
    assert len(recorded) == 1
    assert lost[1:] == ["the batch is gone"]


def test_a_deletion_says_whether_anything_is_left_of_the_study(
    spool: Spool, audit: AuditTrail, receive: Callable[..., None]
) -> None:
    receive(1, PatientID="P1", StudyInstanceUID="1.9")
    batch = closed(spool)
    spool.quarantine(batch, "no rule")
    (quarantined,) = spool.quarantined()
    (whole,) = deletion_messages(MESSAGES, "eve", spool.root, [quarantined.folder])
    other = ct_dataset(SeriesInstanceUID="1.2.4", SOPInstanceUID="1.2.4.1", PatientID="P1", StudyInstanceUID="1.9")
    (spool.root / "open" / "1.2.4").mkdir()
    (spool.root / "open" / "1.2.4" / "1.2.4.1.dcm").write_bytes(part10(other))
    (part,) = deletion_messages(MESSAGES, "eve", spool.root, [quarantined.folder])
    assert [each.event.code.meaning for each in (whole, part)] == ["DICOM Study Deleted", "DICOM Instances Accessed"]


def test_only_refusals_of_who_calls_are_alerts(tmp_path: Path) -> None:
    plan = AuditPlan("node-1", "", tmp_path / "audit.log", 1 << 20, None)
    trail = RunningTrail(plan, tmp_path, MESSAGES, Metrics(CollectorRegistry()))
    trail.start()
    for reason in (Refusal.CALLING_AE_TITLE, Refusal.USER, Refusal.HANDSHAKE, Refusal.TOO_LATE, Refusal.HALF_OPEN):
        trail.refused(reason, "10.9.9.9", "")
    trail.stop()
    lines = (tmp_path / "audit.log").read_bytes()
    assert lines.count(b"\n") == 5
    assert lines.count(b"Node Authentication") == 3
