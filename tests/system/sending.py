"""Senders: DCMTK's storescu for whole files, pynetdicom for bytes that no decent sender would send."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from node import AE_TITLE, PATIENCE_SECONDS, SENDER, Node, required_tool
from pydicom.dataset import Dataset, FileDataset
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage

MakeSeries = Callable[..., list[FileDataset]]
"""Type of the fixture ``make_series``."""


def storescu(node: Node, files: Sequence[Path], *options: str, calling: str = SENDER) -> "subprocess.Popen[str]":
    """Begin to send files over one association."""
    return subprocess.Popen(
        [
            required_tool("storescu"),
            *("--verbose", "--required", "--aetitle", calling, "--call", AE_TITLE, *options),
            *("127.0.0.1", str(node.port)),
            *map(str, files),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def send(node: Node, files: Sequence[Path], *options: str) -> None:
    """Send files and demand that each is stored; ``options`` are storescu's, such as ``--propose-rle``."""
    sender = storescu(node, files, *options)
    output, _ = sender.communicate(timeout=PATIENCE_SECONDS)
    assert sender.returncode == 0, f"{output}\n{node.log_tail()}"
    assert output.count("Received Store Response (Success)") == len(files), output


@contextmanager
def association(node: Node) -> Iterator[Association]:
    """An association for CT Image Storage."""
    entity = AE(ae_title=SENDER)
    entity.add_requested_context(CTImageStorage)
    opened = entity.associate("127.0.0.1", node.port, ae_title=AE_TITLE)
    assert opened.is_established, node.log_tail()
    try:
        yield opened
    finally:
        opened.release()


def status_of_raw_bytes(node: Node, file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Send what follows the File Meta Information byte for byte, whatever it is, and return the status."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    with association(node) as opened:
        response: Dataset = opened.send_c_store(file)
    assert "Status" in response, node.log_tail()
    return int(response.Status)
