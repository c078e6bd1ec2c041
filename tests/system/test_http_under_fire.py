"""What HTTP is sent cannot hurt DICOM, which shares the process with it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of, wait_until_done
from node import MakeNode
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

HALF_SENT = 1100


@contextlib.contextmanager
def half_sent_requests(port: int) -> Iterator[None]:
    """Connections that each send the half of a request and wait."""
    command = [sys.executable, str(Path(__file__).with_name("half_sent.py")), str(port), str(HALF_SENT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "sent\n"
        yield
        sender.communicate()


@pytest.mark.fault(
    "machine",
    "1,100 requests of HTTP are sent by halves at the same time",
    "at most 32 connections are held, for 10 s; series are received and delivered, and the log stays small",
)
def test_half_sent_requests_do_not_hurt_dicom(
    make_node: MakeNode, archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(5)
    node = make_node()
    with half_sent_requests(node.http_port):
        send(node, files_of(series))
        node.wait_for(lambda: len(archive.counts()) == len(series), "the archive has the series")
    wait_until_done(node, series)

    assert_delivered(node, archive, series)
    assert len(node.log()) < 100_000
