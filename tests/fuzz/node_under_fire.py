"""The node's Storage SCP with a spool, in this process, and what must be true of it between two inputs."""

import io
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from factories import ROOT
from file_seeds import single_frame
from prometheus_client import CollectorRegistry
from protocol_parts import ABORT, P_DATA, RELEASE_RP
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from iscl_node.dicom.reading.folder import differing
from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import CT_IMAGE_STORAGE, CommitmentReport, Peer, ReceivedInstance, ReceptionLimits
from iscl_node.metrics import Metrics
from iscl_node.network.commitment_reports import UnknownTransactionError
from iscl_node.network.scp import storage_scp
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.pipeline.reception.receive import reception
from iscl_node.store import durable
from iscl_node.store.spool import Spool

LIMIT_SECONDS: Final = 10.0
"""The server's own time limits: what is shorter a legitimate client may miss on a busy machine."""
PATIENCE_SECONDS: Final = 40.0
"""After which the server should have ended a connection long ago, on a busy machine, too."""
KNOWN_TRANSACTION: Final = "1.2.3.9"
MOST_THREADS: Final = 12
SCANNER: Final = Peer("scanner", "SCANNER", "127.0.0.1", 104)
LIMITS: Final = ReceptionLimits(
    request_seconds=LIMIT_SECONDS,
    pdu_seconds=LIMIT_SECONDS,
    idle_seconds=LIMIT_SECONDS,
    instance_bytes=1 << 20,
    receiving_bytes=16 << 20,
)


class NodeUnderFire:
    """A Storage SCP that its peer SCANNER may store to and tell of commitments."""

    def __init__(self, folder: Path) -> None:
        durable.os.fsync = lambda _: None  # type: ignore[attr-defined]  # for the room under test only
        storage_scp._DIMSE_SECONDS = LIMIT_SECONDS  # type: ignore[assignment, misc]
        self._root = folder / "spool"
        self.spool = Spool.open(self._root, min_free_bytes=0)
        self.reports: list[CommitmentReport] = []
        self._scp = StorageScp(
            ae_title="ISCL_NODE",
            host="127.0.0.1",
            port=0,
            peers=[SCANNER],
            accept_unknown_peers=False,
            receive=self._receive,
            report=self._report,
            metrics=Metrics(CollectorRegistry()),
            limits=LIMITS,
        )
        self._reception = reception(self.spool, Metrics(CollectorRegistry()))
        self._repeated: set[bytes] = set()
        """Data sets that are in the spool as the same image in another form."""
        self._scp.start()
        self._checks = 0

    def connected(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self._scp.port), timeout=PATIENCE_SECONDS)

    def stored(self) -> set[bytes]:
        """Every data set in the spool, without its file meta information, and those that repeat one in another form."""
        return self._repeated | {_data_set(path.read_bytes()) for path in self._root.rglob("*.dcm")}

    def forget(self) -> None:
        """Remove what was received."""
        for state in ("open", "quarantine"):
            for series in (self._root / state).glob("*"):
                shutil.rmtree(series)
        self._repeated.clear()

    def check(self) -> None:
        """A legitimate client is served, and no threads are left behind."""
        self._checks += 1
        dataset = single_frame(SOPInstanceUID=f"{ROOT}.9.{self._checks}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        association = _associated(self._scp.port)
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(dataset).Status == 0
        association.release()
        assert (self._root / "open" / dataset.SeriesInstanceUID / f"{dataset.SOPInstanceUID}.dcm").exists()
        _wait_until(lambda: threading.active_count() <= MOST_THREADS)

    def close(self) -> None:
        """Stop."""
        self._scp.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def _receive(self, instance: ReceivedInstance) -> None:
        self._reception(instance)
        name = f"{read_header(instance.part10).sop_instance_uid}.dcm"
        kept = [path.read_bytes() for path in self._root.rglob(name)]
        if any(differing(each, instance.part10) == "" for each in kept):
            self._repeated.add(_data_set(instance.part10))

    def _report(self, _ae_title: str, report: CommitmentReport) -> None:
        if report.transaction_uid != KNOWN_TRANSACTION:
            raise UnknownTransactionError("nobody asked")
        self.reports.append(report)


def answers(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The type and the content of each PDU of the server, until it ends the connection or the association.

    Raises
    ------
    TimeoutError
        If it does neither in time.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    stream = connection.makefile("rb")
    while time.monotonic() < end:
        try:
            header = stream.read(6)
            content = stream.read(int.from_bytes(header[2:6], "big"))
        except ConnectionError:
            return
        if len(header) < 6:
            return
        yield header[0], content
        if header[0] in (RELEASE_RP, ABORT):
            return
    raise TimeoutError("the server does not end the connection")


def commands(pdus: list[tuple[int, bytes]]) -> list[bytes]:
    """The command sets among what the server sent, each in one fragment."""
    return [content[6:] for kind, content in pdus if kind == P_DATA and content[5] & 1]


def _associated(port: int):
    entity = AE(ae_title="SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = PATIENCE_SECONDS
    contexts = [build_context(Verification), build_context(CT_IMAGE_STORAGE, "1.2.840.10008.1.2.1")]
    for _ in range(3):  # on a busy machine the server's own time limits may strike
        association = entity.associate("127.0.0.1", port, contexts=contexts, ae_title="ISCL_NODE")
        if association.is_established:
            return association
    raise AssertionError("a legitimate client is kept out")


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, [thread.name for thread in threading.enumerate()]
        time.sleep(0.02)


def _data_set(part10: bytes) -> bytes:
    """What lies behind the file meta information, which begins with its length (PS3.10 7.1)."""
    stream = io.BytesIO(part10)
    stream.seek(128 + 4 + 8)
    return part10[stream.tell() + 4 + int.from_bytes(stream.read(4), "little") :]
