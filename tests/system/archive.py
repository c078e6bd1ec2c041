"""Two archives: one that keeps book of every C-STORE and answers as it is told, and Orthanc."""

import contextlib
import json
import os
import subprocess
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pydicom
from node import AE_TITLE, PATIENCE_SECONDS, required_tool, wait_for
from ports import free_port
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)
from pynetdicom.transport import ThreadedAssociationServer

from iscl_node.domain import CT_STORAGE, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.scu.verification import echo


class RecordingArchive:
    """A Storage SCP in this process.

    Parameters
    ----------
    syntaxes : sequence of str
        The transfer syntaxes that it accepts.
    confirms : str
        By which service it tells what it has: 'commitment', 'query', or neither.
    sop_classes : sequence of str
        What it stores.
    """

    def __init__(
        self,
        syntaxes: Sequence[str] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        confirms: str = "",
        sop_classes: Sequence[str] = CT_STORAGE,
    ) -> None:
        self._sop_classes = sop_classes
        self._syntaxes = list(syntaxes)
        self._confirms = confirms
        self.port = free_port()
        self.answers: deque[int] = deque()
        """Statuses for the next requests; when there are none, success."""
        self.commits = True
        """Whether it reports what it has when it is asked to commit."""
        self.comment = ""
        """Error Comment of every status but success."""
        self._received: dict[str, list[bytes]] = defaultdict(list)
        self._change = threading.Condition()
        self._is_holding = False
        self._server: ThreadedAssociationServer | None = None

    def start(self) -> None:
        """Listen."""
        entity = AE(ae_title="ARCHIVE")
        for sop_class in self._sop_classes:
            entity.add_supported_context(sop_class, self._syntaxes)
        handlers: list[tuple[Any, ...]] = [(evt.EVT_C_STORE, self._on_c_store)]
        if self._confirms == "commitment":
            entity.add_supported_context(StorageCommitmentPushModel)
            handlers += [(evt.EVT_N_ACTION, self._on_n_action)]
        if self._confirms == "query":
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
            handlers += [(evt.EVT_C_FIND, self._on_c_find)]
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        self.let_go()
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def hold(self) -> None:
        """Keep every request from now on without an answer."""
        with self._change:
            self._is_holding = True

    def let_go(self) -> None:
        """Answer what is held."""
        with self._change:
            self._is_holding = False
            self._change.notify_all()

    def _on_c_store(self, event: Event) -> int | Dataset:
        with self._change:
            status = self.answers.popleft() if self.answers else 0x0000
            if status == 0x0000:
                uid = str(event.request.AffectedSOPInstanceUID)
                self._received[uid].append(event.encoded_dataset())
            self._change.wait_for(lambda: not self._is_holding, PATIENCE_SECONDS)
        if not self.comment or status == 0x0000:
            return status
        answer = Dataset()
        answer.Status, answer.ErrorComment = status, self.comment
        return answer

    def _on_n_action(self, event: Event) -> tuple[int, None]:
        if self.commits:  # behind the response, in a thread that may wait for the answer
            threading.Timer(0.05, self._report, (event.assoc, event.action_information)).start()
        return 0x0000, None

    def _report(self, association: Association, asked: Dataset) -> None:
        """Report what is here, on the same association (PS3.4 J.3.3)."""
        there = [item for item in asked.ReferencedSOPSequence if item.ReferencedSOPInstanceUID in self._received]
        report = Dataset()
        report.TransactionUID, report.ReferencedSOPSequence = asked.TransactionUID, there
        with contextlib.suppress(RuntimeError):  # the node was killed meanwhile
            association.send_n_event_report(report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)

    def _on_c_find(self, event: Event) -> Iterator[tuple[int, Dataset]]:
        for copies in list(self._received.values()):
            instance = pydicom.dcmread(BytesIO(copies[0]), stop_before_pixels=True, force=True)
            if instance.SeriesInstanceUID == event.identifier.SeriesInstanceUID:
                yield 0xFF00, instance

    def forget(self) -> None:
        """Have received nothing."""
        self._received.clear()

    def counts(self) -> Counter[str]:
        """How often each SOP Instance UID was stored."""
        return Counter({uid: len(copies) for uid, copies in list(self._received.items())})

    def derived_of(self, sources: Iterable[Dataset]) -> dict[str, list[FileDataset]]:
        """What was stored for each source, by the source's SOP Instance UID, without exact repetitions."""
        found: dict[str, list[FileDataset]] = {str(source.SOPInstanceUID): [] for source in sources}
        for copies in list(self._received.values()):
            for copy in dict.fromkeys(copies):
                derived = pydicom.dcmread(BytesIO(copy))
                first = derived.get("PerFrameFunctionalGroupsSequence", [derived])[0]
                (image,) = first.get("DerivationImageSequence", [first])[-1].SourceImageSequence
                origin = str(image.ReferencedSOPInstanceUID)
                if origin in found:
                    found[origin].append(derived)
        return found


def counting(folder: Path) -> str:
    """A script for an Orthanc in this folder that writes down each instance that is sent to it, known or not."""
    return f"""
    function ReceivedInstanceFilter(dicom, origin, info)
        local file = io.open("{folder / "stores.txt"}", "a")
        file:write(dicom.SOPInstanceUID .. "\\n")
        file:close()
        return true
    end
    """


class Orthanc:
    """The Orthanc server as a process of its own.

    Parameters
    ----------
    folder : Path
        For everything it writes.
    lua : str
        A script that it runs.
    settings : mapping, optional
        Win over those that it has.
    """

    def __init__(self, folder: Path, lua: str = "", settings: Mapping[str, Any] | None = None) -> None:
        self.port, self._http_port = free_port(), free_port()
        self._folder = folder
        self._lua = lua
        self._more = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, node_port: int) -> None:
        """Start it, knowing the node as the modality ``node``, and wait until its REST interface answers."""
        program = required_tool("Orthanc")
        config = self._folder / "orthanc.json"
        self._folder.mkdir(exist_ok=True)
        (self._folder / "script.lua").write_text(self._lua)
        config.write_text(json.dumps(self._settings(node_port)))
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen([program, str(config)], stdout=log, stderr=log)
        wait_for(self._answers, "Orthanc answers", (self._folder / "orthanc.log").read_text)

    def _settings(self, node_port: int) -> dict[str, Any]:
        return {
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "storage"),
            "Plugins": [],
            "HttpPort": self._http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": "ARCHIVE",
            "DicomCheckCalledAet": True,
            "DicomPort": self.port,
            "LuaScripts": [str(self._folder / "script.lua")],
            "ExecuteLuaEnabled": True,
            "DicomModalities": {"node": [AE_TITLE, "127.0.0.1", node_port]},
            **self._more,
        }

    @property
    def web_url(self) -> str:
        """Of its DICOMweb service, where the plugin is among its settings."""
        return f"http://127.0.0.1:{self._http_port}/dicom-web"

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except HTTPError as error:
            return error.code == HTTPStatus.UNAUTHORIZED
        except (URLError, ConnectionError, TimeoutError):
            return False

    def get(self, path: str) -> Any:
        """Answer of the REST interface."""
        with urlopen(f"http://127.0.0.1:{self._http_port}{path}", timeout=10) as response:
            return json.load(response)

    def post(self, path: str, body: bytes) -> Any:
        """Answer of the REST interface."""
        with urlopen(Request(f"http://127.0.0.1:{self._http_port}{path}", body), timeout=60) as response:
            return json.load(response)

    def stores(self) -> "Counter[str]":
        """How often each SOP Instance UID was sent to it, if it was made with `counting`."""
        with contextlib.suppress(FileNotFoundError):
            return Counter((self._folder / "stores.txt").read_text().split())
        return Counter()

    def run_lua(self, script: str) -> None:
        """Run a script beside the one that it was given."""
        with urlopen(Request(f"http://127.0.0.1:{self._http_port}/tools/execute-script", script.encode()), timeout=60):
            pass

    def get_bytes(self, path: str) -> bytes:
        """Answer of the REST interface, as it is."""
        with urlopen(f"http://127.0.0.1:{self._http_port}{path}", timeout=60) as response:
            return bytes(response.read())

    def kill(self) -> None:
        """End it in the middle of whatever it does; it may be started again."""
        assert self._process is not None, "it was never started"
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self.kill()


class Dcmqrscp:
    """DCMTK's archive, which answers C-STORE, C-FIND and C-MOVE, as a process of its own.

    Parameters
    ----------
    folder : Path
        For everything it writes.
    """

    def __init__(self, folder: Path) -> None:
        self.peer = Peer("dcmqrscp", "ARCHIVE", "127.0.0.1", free_port())
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, node_port: int) -> None:
        """Start it, knowing the node, and wait until it answers C-ECHO."""
        program, storage, config = required_tool("dcmqrscp"), self._folder / "storage", self._folder / "dcmqrscp.cfg"
        storage.mkdir(parents=True)
        config.write_text(
            f"NetworkTCPPort = {self.peer.port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nnode = ({AE_TITLE}, localhost, {node_port})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nARCHIVE {storage} RW (9, 1024mb) ANY\nAETable END\n"
        )
        with (self._folder / "dcmqrscp.log").open("wb") as log:
            environment = {**os.environ, "TCP_NODELAY": "1"}
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log, env=environment)
        wait_for(self._answers, "dcmqrscp answers", (self._folder / "dcmqrscp.log").read_text)

    def _answers(self) -> bool:
        try:
            return echo(self.peer, AE_TITLE) > 0
        except RetryLaterError:
            return False

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
