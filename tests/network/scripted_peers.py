"""Peers for the network tests: a Storage SCP that answers what it is told to, and what DCMTK needs."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification

from iscl_node.domain import CT_IMAGE_STORAGE, Peer
from iscl_node.network.scp.storage_scp import TRANSFER_SYNTAXES

HANG_UP = -1
"""Scripted in place of a status: the peer drops the connection."""

WAIT_SECONDS = 20.0


def wait_until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Return as soon as the condition holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        tick.wait(0.01)


class ScriptedStorageScp:
    """Answers each C-STORE with the next status of a script, and 0000 after its end."""

    def __init__(self, statuses: Sequence[int]) -> None:
        self.statuses = list(statuses)
        self.received: list[bytes] = []
        self.message_ids: list[int] = []
        self.ends: list[str] = []

    def on_c_store(self, event: Event) -> int:
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status == HANG_UP:
            event.assoc.dul.socket.socket.close()
            return 0x0000
        self.received.append(event.encoded_dataset())
        self.message_ids.append(event.request.MessageID)
        return status

    def handlers(self) -> list[tuple]:
        return [
            (evt.EVT_C_STORE, self.on_c_store),
            (evt.EVT_RELEASED, lambda event: self.ends.append("released")),
            (evt.EVT_ABORTED, lambda event: self.ends.append("aborted")),
        ]


@contextmanager
def running(
    scp: ScriptedStorageScp,
    sop_classes: Sequence[str] = (CT_IMAGE_STORAGE,),
    syntaxes: Sequence[str] = TRANSFER_SYNTAXES,
    known_callers: Sequence[str] = (),
) -> Iterator[Peer]:
    """The scripted SCP on a free port, as a peer."""
    entity = AE(ae_title="ARCHIVE")
    entity.require_calling_aet = list(known_callers)
    for sop_class in sop_classes:
        entity.add_supported_context(UID(sop_class), list(syntaxes))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=scp.handlers())
    try:
        yield Peer("archive", "ARCHIVE", "127.0.0.1", server.server_address[1])
    finally:
        entity.shutdown()


def verification_only() -> tuple[str, ...]:
    """SOP classes of a peer that stores nothing."""
    return (str(Verification),)


def dcmtk(tool: str) -> str:
    """The path of a DCMTK program; the test is skipped without it."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"DCMTK's {tool} is not installed")
    return found


def storescu(port: int, files: Sequence[Path], *options: str, calling: str = "SCANNER") -> subprocess.CompletedProcess:
    """Send files with DCMTK."""
    command = [dcmtk("storescu"), "-aet", calling, "-aec", "ISCL_NODE", *options, "127.0.0.1", str(port)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, env=environment, timeout=60)
