"""Marked patient data goes through everything that a node does, and nothing of it comes out where people look.

Every identifying attribute holds a mark. The node receives, refuses, ignores, quarantines and sends, is killed and
started again; then its log, its answers over HTTP, its reasons and its workflow database are searched for the marks.
"""

import base64
import binascii
import json
import sqlite3
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from archive import RecordingArchive
from bundles import implausible_bundle
from delivery import files_of, series_uid_of, wait_until_done
from factories import ROOT, ct_dataset
from node import PATIENCE_SECONDS, MakeNode, Node
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless
from sending import MakeSeries, send, status_of_raw_bytes, storescu

from iscl_node.denoise.bundle_digest import bundle_digest

pytestmark = pytest.mark.peers

UID_MARK = "4711471147"
BIRTH_DATE = "19000230"
MARKS = ("MARK", "\u00c4\u00d6", BIRTH_DATE)
NO_NUMBER = 7747
"""Becomes a mark in the file; no library would write that where a number belongs."""
TRAIL = "audit.log"
IDENTIFYING = {
    "PatientName": "MARK\u00c4\u00d6^MARKGIVEN",
    "PatientID": "MARKID",
    "OtherPatientNames": "MARKOTHER",
    "PatientBirthDate": BIRTH_DATE,  # there is no such day: whoever reads it warns, and quotes it
    "PatientAge": "MARKAGE",
    "PatientWeight": NO_NUMBER,
    "PatientAddress": "MARKADDRESS",
    "PatientComments": "MARKCOMMENTS",
    "AccessionNumber": "MARKACCESSION",
    "StudyID": "MARKSTUDYID",
    "StudyDescription": "MARKSTUDY",
    "SeriesDescription": "MARKSERIES",
    "InstitutionName": "MARKINSTITUTION",
    "InstitutionAddress": "MARKSTREET",
    "StationName": "MARKSTATION",
    "ReferringPhysicianName": "MARKPHYSICIAN",
    "OperatorsName": "MARKOPERATOR",
    "ProtocolName": "MARKPROTOCOL",
    "DeviceSerialNumber": "MARKSERIAL",
    "StudyInstanceUID": f"{ROOT}.{UID_MARK}.1",
    "FrameOfReferenceUID": f"{ROOT}.{UID_MARK}.2",
}
NOT_CHEST = """[[rules]]
name = "heads"
when = { BodyPartExamined = "HEAD" }
ignore = "only chests"
[[rules]]
name = "CT"
when = { BodyPartExamined = "CHEST" }"""


@pytest.fixture
def marked_series(make_series: MakeSeries) -> MakeSeries:
    """Series with a mark in every identifying attribute, in their UIDs and in a private element."""

    def make(name: str, **overrides: object) -> list[FileDataset]:
        with warnings.catch_warnings(action="ignore"):
            series = make_series(2, name, **{**IDENTIFYING, **overrides})
            for number, dataset in enumerate(series, start=1):
                dataset.SeriesInstanceUID = f"{ROOT}.{UID_MARK}.{sum(name.encode())}"
                dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{number}"
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
                dataset.private_block(0x0099, "MARKCREATOR", create=True).add_new(1, "LO", "MARKPRIVATE")
                write(dataset)
        return series

    return make


def write(dataset: FileDataset) -> None:
    path = Path(str(dataset.filename))
    dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(str(NO_NUMBER).encode(), b"MARK"))


@pytest.mark.fault(
    "machine",
    "data with marked patient data are taken, refused, ignored, quarantined and sent, and the node is killed",
    "no mark is in log, HTTP answers, reasons or workflow database; Patient ID and study are in the audit trail",
)
def test_patient_data_stays_inside(
    make_node: MakeNode,
    archive: RecordingArchive,
    marked_series: MakeSeries,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "always::UserWarning")  # as loud as pydicom can be
    archive.comment = "MARKNAME is not known here"
    node = make_node(rule=f'[audit]\nfile = "{tmp_path / TRAIL}"')
    good = marked_series("good")
    put_off_then_taken_with_a_warning(node, archive, good)
    refused_by_the_destination(node, archive, marked_series("refused"))
    refused_by_the_node(node, marked_series("cut"), monkeypatch)
    conflict(node, good)
    node.kill()
    node.change_settings('[[rules]]\nname = "CT"\nwhen = { Modality = "CT" }', NOT_CHEST)
    implausible = implausible_bundle(tmp_path / "model")
    node.change_settings(str(node.bundle), str(implausible))
    node.change_settings(bundle_digest(node.bundle), bundle_digest(implausible))
    node.start()
    ignored_or_quarantined(node, marked_series)

    assert_nothing_came_out(node)
    assert_log_leads_to_series(node, series_uid_of(good))
    assert_trail_names_patients_by_their_id(tmp_path / TRAIL)


def put_off_then_taken_with_a_warning(node: Node, archive: RecordingArchive, series: list[FileDataset]) -> None:
    archive.answers.extend([0xA700, 0xB000])
    send(node, files_of(series))
    wait_until_done(node, series)
    assert b"MARKPHYSICIAN" in node.files("done", series_uid_of(series))[0].read_bytes()  # the marks are on their way


def refused_by_the_destination(node: Node, archive: RecordingArchive, series: list[FileDataset]) -> None:
    archive.answers.append(0xC000)
    set_aside(node, series)


def refused_by_the_node(node: Node, series: list[FileDataset], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off, by a stranger, of another modality, and under UIDs that are none."""
    whole, other = files_of(series)
    storescu(node, [other], calling="STRANGER").communicate(timeout=PATIENCE_SECONDS)
    whole.write_bytes(whole.read_bytes()[:-1000])
    assert status_of_raw_bytes(node, whole, monkeypatch) & 0xF000 == 0xC000
    for change in ({"Modality": "MARK"}, {"SeriesInstanceUID": f"{UID_MARK}.MARK"}, {"Rows": None}):
        with warnings.catch_warnings(action="ignore"):
            ct_dataset(**{**IDENTIFYING, **change}).save_as(other, enforce_file_format=True)
        assert status_of_raw_bytes(node, other, monkeypatch) & 0xF000 in (0xA000, 0xC000)


def conflict(node: Node, series: list[FileDataset]) -> None:
    with warnings.catch_warnings(action="ignore"):
        series[0].KVP = 80
        write(series[0])
    send(node, files_of(series)[:1])
    assert "quarantine" in node.states(series_uid_of(series))


def ignored_or_quarantined(node: Node, marked_series: MakeSeries) -> None:
    pixels = marked_series("pixels")
    for dataset in pixels:
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.PixelData = encapsulate([b"MARK" * 100])
        with warnings.catch_warnings(action="ignore"):
            write(dataset)
    send(node, files_of(pixels), "--propose-rle")
    damaged = f"{ROOT}.{UID_MARK}.99"
    (node.spool / "open" / damaged).mkdir()
    (node.spool / "open" / damaged / f"{damaged}.1.dcm").write_bytes(b"MARK" * 100)
    gone = f"{ROOT}.{UID_MARK}.98"
    (node.spool / "open" / gone).mkdir()
    (node.spool / "open" / gone / "MARK.dcm").symlink_to("nowhere")  # whoever opens it quotes the name
    ignored = [
        marked_series("ignored", BodyPartExamined="HEAD"),
        marked_series("localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    ]
    quarantined = [
        marked_series("implausible"),
        marked_series("no rule", BodyPartExamined="MARK"),
        marked_series("units", RescaleType="MARK"),
        marked_series("slope", RescaleSlope=NO_NUMBER),
        marked_series("numbers", InstanceNumber=NO_NUMBER, SliceThickness=NO_NUMBER),
    ]
    send(node, [file for series in (*ignored, *quarantined) for file in files_of(series)])
    ends = {series_uid_of(series): {"quarantine"} for series in (pixels, *quarantined)}
    ends |= {damaged: {"quarantine"}, gone: {"quarantine"}} | {series_uid_of(each): {"ignored"} for each in ignored}
    node.wait_for(lambda: {uid: node.states(uid) for uid in ends} == ends, "the end of all these series")


def set_aside(node: Node, series: list[FileDataset]) -> None:
    send(node, files_of(series))
    node.wait_for(lambda: node.states(series_uid_of(series)) == {"quarantine"}, "the quarantine")


def assert_nothing_came_out(node: Node) -> None:
    status = node.status()
    reasons = [path.read_bytes() for path in node.spool.rglob("reason.txt")]
    conflict, *_ = (each for each in status["quarantine"] if each["batch"].startswith("conflict-"))
    node.command("release", conflict["series"], "--batch", conflict["batch"], "--yes")
    pages = [node.page(name) for name in ("metrics", "healthz", "readyz")]
    texts = [node.log().encode(), (node.spool / "releases.jsonl").read_bytes(), *reasons, *pages]
    assert len(reasons) >= 8
    assert not found_marks(texts, [*MARKS, UID_MARK])
    assert not found_marks(
        [json.dumps(status, ensure_ascii=False).encode(), *database_contents(node.spool)], MARKS
    )  # these may name series


def assert_trail_names_patients_by_their_id(trail: Path) -> None:
    """Patient ID and Study Instance UID are in it by purpose, and nothing else of the patient."""
    text = trail.read_bytes()
    assert text.count(b'"MARKID"') > 5
    assert IDENTIFYING["StudyInstanceUID"].encode() in text
    assert not found_marks([text.replace(b"MARKID", b"")], MARKS)


def found_marks(texts: Iterable[bytes], marks: Iterable[str]) -> list[bytes]:
    """The surroundings of every mark, also in other character sets and as an escaped literal."""
    forms = {form for mark in marks for form in (mark.encode(), mark.encode("latin-1"), mark.encode("unicode_escape"))}
    return [text[max(0, at - 200) : at + 50] for text in texts for form in forms if (at := text.find(form)) >= 0]


def database_contents(spool: Path) -> list[bytes]:
    """Everything in the workflow database; the engine keeps results and faults in base64."""
    files = [path.read_bytes() for path in spool.glob("workflows.sqlite*")]
    database = sqlite3.connect(f"file:{spool / 'workflows.sqlite'}?mode=ro", uri=True, timeout=30)
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = [value for table in tables for row in database.execute(f'SELECT * FROM "{table}"') for value in row]
    finally:
        database.close()
    decoded = [decoded_base64(value) for value in values if isinstance(value, str)]
    assert any(b"QuarantineSeriesError" in each for each in decoded)  # faults are in it, and can be read here
    return files + decoded


def decoded_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()


def assert_log_leads_to_series(node: Node, series_uid: str) -> None:
    """Every line is JSON and names the model and the settings; a hash in it leads to the series, and back."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in node.log().splitlines()]
    assert all({"model", "settings"} <= set(line) for line in lines if line["event"] != "bundle.digest_not_pinned")
    assert len({line["settings"] for line in lines if "settings" in line}) == 2
    assert any(line["event"] == "library.logged" for line in lines)  # pydicom warned, and this is what was left of it
    ended = next(line for line in lines if line["event"] == "batch.ended")
    for text in (ended["series_uid"], series_uid):
        answer = node.command("lookup", text)
        assert answer.stdout.split()[:2] == [ended["series_uid"], series_uid], answer.stderr
    told = {each["series"]: each["log"] for each in node.status()["quarantine"]}
    quarantined = [line["series_uid"] for line in lines if line["event"] == "batch.quarantined"]
    assert told
    assert set(told.values()) <= {*quarantined, ended["series_uid"]}
    assert (node.spool / "log.key").stat().st_mode & 0o777 == 0o600
