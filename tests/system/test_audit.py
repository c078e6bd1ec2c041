"""The audit trail of the whole program: complete, in order, in the file and at the syslog server; no image waits."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from archive import RecordingArchive
from audit_schema import details, faults
from certificates import Authority
from delivery import assert_delivered, files_of, series_uid_of, wait_until_done
from node import PATIENCE_SECONDS, SENDER, Node
from ports import free_port
from pydicom.dataset import FileDataset
from sending import MakeSeries, send, storescu
from syslog_receiver import SyslogReceiver

from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.network.tls import server_context

pytestmark = [pytest.mark.peers, pytest.mark.long]

_EVENT = {
    "110100": "activity",
    "110102": "begin",
    "110103": "deleted",
    "110104": "transferred",
    "110105": "study deleted",
    "110106": "export",
    "110113": "alert",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def node(tmp_path: Path, archive: RecordingArchive, bundle: Path, authority: Authority, port: int) -> Iterator[Node]:
    """A node that was not started yet, with a file and a syslog server for its trail."""
    ours = authority.issue("node")
    node = Node(tmp_path / "node", archive.port, bundle)
    syslog = (
        f'host = "localhost"\nport = {port}\ncertificate = "{ours.certificate}"\nkey = "{ours.key}"\nca = "{ours.ca}"'
    )
    node.change_settings(
        "[bundle]", f'[audit]\nfile = "{trail(node)}"\nsite = "Hospital"\n[audit.syslog]\n{syslog}\n[bundle]'
    )
    yield node
    node.close()


def trail(node: Node) -> Path:
    return node.spool.parent / "audit.log"


def parsed(lines: list[bytes]) -> list[Element]:
    messages = [ElementTree.fromstring(line.split(b"\xef\xbb\xbf", 1)[1]) for line in lines]
    assert not [fault for message in messages for fault in faults(message)]
    return messages


def told(message: Element) -> str:
    """A message in short: its event, outcome, and the participants with their roles."""
    event = message[0]
    types = "".join(each.attrib["originalText"] for each in event.findall("EventTypeCode"))
    code = _EVENT[event[0].attrib["csd-code"]]
    people = "".join(
        f" {each.attrib['UserID']}"
        for each in message.findall("ActiveParticipant")
        if each.attrib["UserID"] != "node-1"
    )
    return f"{code} {event.attrib['EventActionCode']}{event.attrib['EventOutcomeIndicator']} {types}{people}".strip()


def identities(message: Element) -> dict[str, str]:
    """The IDs of its objects by the code of what they are."""
    return {
        each[0].attrib["csd-code"]: each.attrib["ParticipantObjectID"]
        for each in message.findall("ParticipantObjectIdentification")
    }


@pytest.mark.fault(
    "machine",
    "the syslog server is away while series are taken, sent and refused, and the node is killed",
    "no image waits; file and server get every audit message, in the order of what happened",
)
def test_the_trail_is_complete_whoever_goes_away(
    node: Node, archive: RecordingArchive, make_series: MakeSeries, authority: Authority, port: int
) -> None:
    context = server_context(authority.issue("syslog"))
    good, later, refused = make_series(3, PatientID="P1"), make_series(2, "later"), make_series(1, "refused")
    node.start()
    with SyslogReceiver(port, context) as receiver:
        send(node, files_of(good))
        wait_until_done(node, good)
        stranger(node, files_of(good))
        node.wait_for(lambda: len(set(receiver.messages)) == 5, "five messages are at the server")
        before = list(receiver.messages)
    send(node, files_of(later))
    wait_until_done(node, later)
    archive.answers.append(0xC000)
    send(node, files_of(refused))
    node.wait_for(lambda: node.states(series_uid_of(refused)) == {"quarantine"}, "the destination refused")
    node.wait_for(lambda: len(trail(node).read_bytes().splitlines()) == 11, "eleven messages are in the file")
    node.kill()
    node.start()
    node.command("release", series_uid_of(refused), "--yes")
    with SyslogReceiver(port, context) as receiver:
        node.wait_for(lambda: len(set([*before, *receiver.messages])) == 13, "thirteen messages are at the server")
        node.terminate()
        assert node.exit_code(PATIENCE_SECONDS) == 0, node.log_tail()
        at_server = list(dict.fromkeys([*before, *receiver.messages]))

    assert at_server == trail(node).read_bytes().splitlines()
    assert_delivered(node, archive, good)
    assert_delivered(node, archive, later)
    assert_told(node, parsed(at_server), good)


def stranger(node: Node, files: list[Path]) -> None:
    for _ in range(2):
        sender = storescu(node, files, calling="STRANGER")
        sender.communicate(timeout=PATIENCE_SECONDS)
        assert sender.returncode != 0


def assert_told(node: Node, messages: list[Element], good: list[FileDataset]) -> None:
    moved = [f"transferred C0  {SENDER}", "begin E0  ARCHIVE", "transferred R0  ARCHIVE"]
    assert [re.sub(r" +", " ", told(each)) for each in messages[:11]] == [
        re.sub(r" +", " ", each)
        for each in (
            "activity E0 Application Start",
            *moved,
            "alert E4 Node Authentication STRANGER",
            *moved,
            f"transferred C0 {SENDER}",
            "begin E0 ARCHIVE",
            "transferred R8 ARCHIVE",
        )
    ]
    rest = [told(each) for each in messages[11:]]
    assert rest[0] == "activity E0 Application Start"
    assert re.fullmatch(r"(study )?deleted D0  \S.*", rest[1])
    assert rest[2:] == ["activity E0 Application Stop"]
    model = {details(each)["ModelDigest"] for each in messages}
    assert model == {bundle_digest(node.bundle)}
    assert len({details(each)["SettingsDigest"] for each in messages}) == 1
    received, begun, sent = messages[1:4]
    for each in (received, begun, sent):
        assert identities(each).items() >= {"2": "P1", "110180": str(good[0].StudyInstanceUID)}.items()
        (count,) = each.iter("SOPClass")
        assert count.attrib["NumberOfInstances"] == "3"
    sender, _ = received.findall("ActiveParticipant")
    assert sender.attrib["NetworkAccessPointID"] == "127.0.0.1"
    assert messages[10].find("EventIdentification/EventOutcomeDescription").text.startswith("peer archive refused")  # type: ignore[union-attr]


def test_commands_tell_the_trail_what_they_do_and_do_nothing_when_it_cannot_be_told(
    node: Node, make_series: MakeSeries, tmp_path: Path
) -> None:
    node.change_settings("[audit.syslog]", "max_bytes = 4194304\n[audit.syslog]")
    node.start()
    series = make_series(2, RescaleSlope=0, PatientID="P7")
    uid = series_uid_of(series)
    send(node, files_of(series))
    node.wait_for(lambda: node.states(uid) == {"quarantine"}, "the quarantine")

    checked = node.command("check")
    assert f"audit file: {trail(node)}" in checked.stdout
    assert "audit syslog server: FAILED: localhost" in checked.stdout

    exported = node.command("export", uid, str(tmp_path / "copy"))
    assert exported.returncode == 0, exported.stderr
    (export,) = [each for each in parsed(trail(node).read_bytes().splitlines()) if "export" in told(each)]
    assert (tmp_path / "copy").as_uri() in told(export)
    assert identities(export)["2"] == "P7"

    with trail(node).open("ab") as file:
        file.write(b"x" * 4194304 + b"\n")
    for command in (("export", uid, str(tmp_path / "other")), ("release", uid, "--yes")):
        refused = node.command(*command)
        assert refused.returncode == 1
        assert "the audit trail does not take it, so it is not done" in refused.stderr
    assert not (tmp_path / "other").exists()
    assert node.states(uid) == {"quarantine"}
