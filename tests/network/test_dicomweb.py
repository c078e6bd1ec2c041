"""STOW-RS and QIDO-RS against a service that stores, refuses, hangs up or lies."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from certificates import Authority
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from iscl_node.dicom.deriving.transcoding import native
from iscl_node.domain import Peer, StoreAnswer, Tls, UserIdentity, WebService
from iscl_node.errors import QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.dicomweb.qido import find_instances, verify
from iscl_node.network.dicomweb.stow import send
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NoAssociationError
from iscl_node.network.tls import server_context

MakeFiles = Callable[[int], list[Path]]

HANG_UP = (0, b"")


class Service:
    """A DICOMweb service in this process that answers as it is told, and else stores everything."""

    def __init__(self, tls: Tls | None = None) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.takes_compressed = True
        self.page_size = 1000
        self.stored: list[tuple[str, str, bytes]] = []
        """SOP Instance UID, transfer syntax and file of each."""
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = server_context(tls).wrap_socket(self._server.socket, server_side=True)
        url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}/web"
        self.peer = Peer("archive", "", "127.0.0.1", self.port, web=WebService(url))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> "Service":
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def store(self, body: bytes) -> tuple[int, bytes]:
        boundary, rest = body.split(b"\r\n", 1)
        _, rest = rest.split(b"Content-Type: application/dicom\r\n\r\n", 1)
        file = rest.removesuffix(b"\r\n" + boundary + b"--\r\n")
        dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(file))
        syntax, uid = str(dataset.file_meta.TransferSyntaxUID), str(dataset.SOPInstanceUID)
        if not self.takes_compressed and syntax != ExplicitVRLittleEndian:
            return 409, failed(uid, 0xC122)
        self.stored.append((uid, syntax, file))
        return 200, stored(uid)

    def find(self, keys: dict[str, list[str]]) -> tuple[int, bytes]:
        first = int(keys.get("offset", ["0"])[0])
        wanted = keys.get("SOPInstanceUID", [])
        uids = [uid for uid, _, _ in self.stored if not wanted or uid in wanted]
        found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in uids[first : first + self.page_size]]
        return 200 if found else 204, json.dumps(found).encode() if found else b""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/web/studies"
                self._answer(lambda: service.store(body))

            def do_GET(self) -> None:
                assert urlsplit(self.path).path == "/web/instances"
                self._answer(lambda: service.find(parse_qs(urlsplit(self.path).query)))

            def _answer(self, usual: Callable[[], tuple[int, bytes]]) -> None:
                service.headers.append(dict(self.headers))
                status, body = service.answers.pop(0) if service.answers else usual()
                if (status, body) == HANG_UP:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        return Handler


def stored(uid: str, warning: int | None = None) -> bytes:
    reason = {} if warning is None else {"00081196": {"vr": "US", "Value": [warning]}}
    item = {"00081155": {"vr": "UI", "Value": [uid]}, **reason}
    return json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()


def failed(uid: str, reason: int) -> bytes:
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


def uids_of(files: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(file).SOPInstanceUID) for file in files]


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def answers() -> list[StoreAnswer]:
    return []


Send = Callable[[list[Path]], None]


@pytest.fixture
def send_all(service: Service, metrics: Metrics, answers: list[StoreAnswer]) -> Send:
    return lambda files: send(service.peer, files, metrics, native, answers.append)


def test_each_file_arrives_byte_for_byte_and_is_answered_for(
    service: Service, send_all: Send, answers: list[StoreAnswer], make_ct_files: MakeFiles, metrics: Metrics
) -> None:
    files = make_ct_files(3)
    send_all(files)
    assert [file for _, _, file in service.stored] == [file.read_bytes() for file in files]
    assert [(each.instance.sop_instance_uid, each.status, each.is_stored) for each in answers] == [
        (uid, 0, True) for uid in uids_of(files)
    ]
    labels = {"peer": "archive", "status": "0000"}
    assert metrics.registry.get_sample_value("iscl_node_sent_instances_total", labels) == 3


def test_nothing_to_send_opens_no_connection(metrics: Metrics) -> None:
    peer = Peer("archive", "", "127.0.0.1", 1, web=WebService("http://127.0.0.1:1/web"))
    send(peer, [], metrics, native)


@pytest.mark.parametrize("warning", [0xB000, 0xB007, 0xB00E])
@pytest.mark.fault(
    "delivery", "a DICOMweb service stores an instance with a warning", "counts as stored; the others are sent"
)
def test_a_warning_counts_as_stored(service: Service, send_all: Send, make_ct_files: MakeFiles, warning: int) -> None:
    files = make_ct_files(2)
    service.answers = [(200, stored(uids_of(files)[0], warning))]
    send_all(files)
    assert [uid for uid, _, _ in service.stored] == uids_of(files)[1:]


@pytest.mark.fault(
    "delivery",
    "a DICOMweb service says of an instance that it has that it fails to store it (409)",
    "it is looked for by QIDO-RS: it counts as stored",
)
def test_a_conflict_about_what_is_there_counts_as_stored(
    service: Service, send_all: Send, answers: list[StoreAnswer], make_ct_files: MakeFiles
) -> None:
    files = make_ct_files(1)
    send_all(files)
    service.answers = [(409, failed(uids_of(files)[0], 0x0110))]
    send_all(files)
    assert [(each.status, each.is_stored) for each in answers] == [(0, True), (0x0111, True)]


@pytest.mark.parametrize(
    ("answer", "raised", "told"),
    [
        (lambda uid: (409, failed(uid, 0xA700)), RetryLaterError, "cannot store now: status A700"),
        (lambda uid: (409, failed(uid, 0x0110)), RetryLaterError, "cannot store now: status 0110"),
        (lambda uid: (409, failed(uid, 0x0122)), QuarantineSeriesError, "refused with status 0122"),
        (lambda uid: (202, failed(uid, 0xC000)), QuarantineSeriesError, "refused with status C000"),
        (lambda _: (400, b""), QuarantineSeriesError, "HTTP status 400 (bad request)"),
        (lambda _: (413, b""), QuarantineSeriesError, "HTTP status 413"),
        (lambda _: (401, b""), RetryLaterError, "401 (unauthorized); are user, or token_file"),
        (lambda _: (404, b""), RetryLaterError, "is the url that of its DICOMweb service?"),
        (lambda _: (302, b""), RetryLaterError, "points to another place"),
        (lambda _: (503, b""), RetryLaterError, "503 (service unavailable)"),
        (lambda _: (599, b""), RetryLaterError, "HTTP status 599"),
        (lambda _: HANG_UP, RetryLaterError, "disconnected"),
        (lambda _: (200, b"<html>Log in</html>"), RetryLaterError, "without saying that the instance is stored"),
        (lambda _: (200, stored("2.25.999")), RetryLaterError, "without saying that the instance is stored"),
        (lambda _: (200, b'[["00081199"]]'), RetryLaterError, "without saying that the instance is stored"),
        (lambda _: (200, b'{"00081199": 7}'), RetryLaterError, "without saying that the instance is stored"),
    ],
)
@pytest.mark.fault(
    "delivery",
    "a DICOMweb service refuses, hangs up, or answers what does not name the instance",
    "sent again later, or quarantine where it will never be taken; never taken for stored",
)
def test_sending_stops_at_what_is_not_stored(
    service: Service,
    send_all: Send,
    answers: list[StoreAnswer],
    make_ct_files: MakeFiles,
    answer: Callable[[str], tuple[int, bytes]],
    raised: type[Exception],
    told: str,
) -> None:
    files = make_ct_files(3)
    uids = uids_of(files)
    service.answers = [(200, stored(uids[0])), answer(uids[1])]
    with pytest.raises(raised) as caught:
        send_all(files)
    assert told in str(caught.value)
    assert service.stored == []
    assert [each.instance.sop_instance_uid for each in answers if each.is_stored] == uids[:1]


def test_what_is_not_taken_compressed_is_sent_decoded(
    service: Service, send_all: Send, make_ct_files: MakeFiles
) -> None:
    files = make_ct_files(2)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    send_all(files)
    assert {syntax for _, syntax, _ in service.stored} == {RLELossless}
    service.stored.clear()
    service.takes_compressed = False
    before = len(service.headers)
    send_all(files)
    assert [syntax for _, syntax, _ in service.stored] == [ExplicitVRLittleEndian] * 2
    assert len(service.headers) - before == 3, "what it does not take is tried once"
    service.stored.clear()
    service.answers = [(415, b"")]
    send_all(files)
    assert [syntax for _, syntax, _ in service.stored] == [ExplicitVRLittleEndian] * 2
    (decoded, _) = (pydicom.dcmread(pydicom.filebase.DicomBytesIO(file)) for _, _, file in service.stored)
    assert (decoded.pixel_array == pydicom.dcmread(files[0]).pixel_array).all()


def test_a_file_that_is_gone_or_damaged_goes_to_quarantine(
    service: Service, send_all: Send, make_ct_files: MakeFiles, tmp_path: Path, metrics: Metrics
) -> None:
    with pytest.raises(QuarantineSeriesError, match="a file to send cannot be read"):
        send_all([tmp_path / "gone.dcm"])
    (file,) = make_ct_files(1)
    kept = file.read_bytes()
    with pytest.raises(QuarantineSeriesError, match="a file to send cannot be read"):
        send(service.peer, [file], metrics, native, opened=lambda path: _unlinked(path, kept))

    def broken(_path: Path) -> Dataset:
        raise ValueError

    file.write_bytes(kept)
    dataset = pydicom.dcmread(file)
    dataset.compress(RLELossless)
    dataset.save_as(file)
    service.takes_compressed = False
    with pytest.raises(QuarantineSeriesError, match="a file to send cannot be encoded"):
        send(service.peer, [file], metrics, broken)


def _unlinked(path: Path, content: bytes) -> Any:
    path.unlink()
    return pydicom.filebase.DicomBytesIO(content)


def test_all_pages_of_a_series_are_asked_for(service: Service, send_all: Send, make_ct_files: MakeFiles) -> None:
    files = make_ct_files(5)
    send_all(files)
    service.page_size = 2
    assert find_instances(service.peer, "1.2", "1.2.3") == set(uids_of(files))
    before = len(service.headers)
    assert find_instances(service.peer, "1.2", "1.2.3", uids_of(files)[:2]) >= set(uids_of(files)[:2])
    assert len(service.headers) - before == 1, "what was sent is there: nothing more to ask"


def test_what_is_of_another_series_does_not_count(service: Service) -> None:
    of_another = {"00080018": {"Value": ["2.25.1"]}, "0020000E": {"Value": ["9.9"]}}
    service.answers = [(200, json.dumps([of_another]).encode())]
    assert find_instances(service.peer, "1.2", "1.2.3") == set()


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        ((404, b""), ServiceRefusedError),
        ((403, b""), ServiceRefusedError),
        ((501, b""), ServiceRefusedError),
        ((500, b""), RetryLaterError),
        ((429, b""), RetryLaterError),
        ((200, b"<html>"), RetryLaterError),
        ((200, b"7"), RetryLaterError),
        (HANG_UP, NoAssociationError),
    ],
)
@pytest.mark.fault(
    "delivery",
    "a DICOMweb service cannot or will not be asked by QIDO-RS",
    "asked again later; nothing is taken for missing",
)
def test_a_question_without_a_good_answer_is_an_error(
    service: Service, answer: tuple[int, bytes], raised: type[Exception]
) -> None:
    service.answers = [answer]
    with pytest.raises(raised) as caught:
        find_instances(service.peer, "1.2", "1.2.3")
    assert type(caught.value) is raised
    assert service.peer.web is not None
    assert service.peer.web.url in str(caught.value)


def test_the_token_is_read_for_each_connection(service: Service, tmp_path: Path) -> None:
    assert service.peer.web is not None
    token = tmp_path / "token"
    peer = Peer("archive", "", "127.0.0.1", 1, web=WebService(service.peer.web.url, token))
    for text in ("first", "second\nnot of it"):
        token.write_text(text)
        assert verify(peer) > 0
    assert [each["Authorization"] for each in service.headers] == ["Bearer first", "Bearer second"]
    for content in (b"", b"\xff\xfe"):
        token.write_bytes(content)
        with pytest.raises(NoAssociationError, match="token_file"):
            verify(peer)


def test_user_and_password_are_sent(service: Service) -> None:
    user = UserIdentity("node", "open sesame")
    verify(Peer("archive", "", "127.0.0.1", 1, user=user, web=service.peer.web))
    assert service.headers[-1]["Authorization"] == "Basic bm9kZTpvcGVuIHNlc2FtZQ=="


def test_certificates_of_both_are_checked(tmp_path: Path) -> None:
    hospital = Authority(tmp_path)
    ours, foreign = hospital.issue("node"), Authority(tmp_path, "other").issue("stranger")
    with Service(hospital.issue("archive")) as service:
        assert verify(replace(service.peer, tls=ours)) > 0
        for tls in (None, foreign, Tls(foreign.certificate, foreign.key, hospital.file)):
            with pytest.raises(NoAssociationError, match=r"peer archive \(https://127"):
                verify(replace(service.peer, tls=tls))
        with pytest.raises(NoAssociationError, match="cannot be read"):
            verify(replace(service.peer, tls=replace(ours, key=tmp_path / "gone")))


def test_a_proxy_of_the_environment_is_not_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert verify(service.peer) > 0


def test_an_answer_without_end_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscl_node.network.dicomweb.connection._LONGEST_ANSWER", 10)
    service.answers = [(200, b"[" + b" " * 20 + b"]")]
    with pytest.raises(NoAssociationError, match="does not come to an end"):
        verify(service.peer)
