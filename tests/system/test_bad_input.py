"""What a node must live through: strangers, other modalities, broken data sets and noise on its port."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import RecordingArchive
from delivery import assert_delivered, files_of, series_uid_of, wait_until_done
from factories import ROOT, ct_dataset
from node import PATIENCE_SECONDS, Node
from sending import MakeSeries, association, send, status_of_raw_bytes, storescu

pytestmark = pytest.mark.peers

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def node_that_must_survive(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> Iterator[Node]:
    """After the test a good series still goes through."""
    yield shared_node
    series = make_series(2, "good")
    send(shared_node, files_of(series))
    wait_until_done(shared_node, series)
    assert_delivered(shared_node, shared_archive, series)


@pytest.mark.fault(
    "peers",
    "a calling AE title that the settings do not know",
    "the association is rejected, nothing is stored, and the next good series is delivered",
)
def test_stranger_is_rejected(node_that_must_survive: Node, make_series: MakeSeries) -> None:
    series = make_series(1)

    sender = storescu(node_that_must_survive, files_of(series), calling="STRANGER")
    output, _ = sender.communicate(timeout=PATIENCE_SECONDS)

    assert sender.returncode != 0
    assert "Calling AE Title Not Recognized" in output
    assert not node_that_must_survive.states(series_uid_of(series))


@pytest.mark.fault(
    "reception",
    "an MR image",
    "no presentation context is accepted, nothing is stored, and the next good series is delivered",
)
def test_mr_image_is_refused(node_that_must_survive: Node, make_series: MakeSeries) -> None:
    series = make_series(1, SOPClassUID=MR_IMAGE, Modality="MR")

    sender = storescu(node_that_must_survive, files_of(series))
    output, _ = sender.communicate(timeout=PATIENCE_SECONDS)

    assert sender.returncode != 0
    assert "No Acceptable Presentation Contexts" in output
    assert not node_that_must_survive.states(series_uid_of(series))


@pytest.mark.fault("processing", "a localizer", "ignored with the reason; the next good series is delivered")
def test_localizer_is_ignored_with_the_reason(node_that_must_survive: Node, make_series: MakeSeries) -> None:
    series = make_series(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    uid = series_uid_of(series)

    send(node_that_must_survive, files_of(series))
    node_that_must_survive.wait_for(lambda: node_that_must_survive.states(uid) == {"ignored"}, "the series is ignored")

    assert node_that_must_survive.status()["ignored"] == {"1 of 1 instances: it is a localizer": 1}


@pytest.mark.parametrize("kept_bytes", [40, 400, -1000], ids=["in an early element", "in the header", "in the pixels"])
@pytest.mark.fault(
    "reception",
    "a data set that is cut off, in its header or its pixels",
    "status Cxxx, nothing is stored, and the next good series is delivered",
)
def test_truncated_data_set_is_refused(
    node_that_must_survive: Node, make_series: MakeSeries, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = make_series(1)
    file = files_of(series)[0]
    whole = file.read_bytes()
    end = kept_bytes if kept_bytes < 0 else _data_set_offset(whole) + kept_bytes
    file.write_bytes(whole[:end])

    status = status_of_raw_bytes(node_that_must_survive, file, monkeypatch)

    assert status & 0xF000 == 0xC000, hex(status)
    assert not node_that_must_survive.states(series_uid_of(series))


@pytest.mark.fault(
    "reception", "random bytes in place of a data set", "status Cxxx, and the next good series is delivered"
)
def test_data_set_of_random_bytes_is_refused(
    node_that_must_survive: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "garbage.dcm"
    good = ct_dataset(SOPInstanceUID=f"{ROOT}.66")
    good.save_as(file, enforce_file_format=True)
    file.write_bytes(file.read_bytes()[: _data_set_offset(file.read_bytes())] + os.urandom(4000))

    status = status_of_raw_bytes(node_that_must_survive, file, monkeypatch)

    assert status & 0xF000 == 0xC000, hex(status)


def _data_set_offset(part10: bytes) -> int:
    """Where the File Meta Information ends (PS3.10 7.1)."""
    return 144 + int.from_bytes(part10[140:144], "little")


@pytest.mark.parametrize(
    "noise",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(500), b"\x01\x00\xff\xff\xff\xff" + bytes(100), b"\x01\x00\x00\x00\x00\x44\x00"],
    ids=["http", "zeros", "a PDU of 4 GiB", "half a PDU"],
)
@pytest.mark.fault(
    "peers",
    "HTTP, zeros, a PDU of 4 GiB or half a PDU on the DICOM port",
    "the node runs on, and the next good series is delivered",
)
def test_noise_on_the_port_is_survived(node_that_must_survive: Node, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node_that_must_survive.port)) as connection:
        connection.sendall(noise)

    assert node_that_must_survive.is_running


@pytest.mark.fault("peers", "an association without a request", "the next good series is delivered")
def test_association_without_a_request_is_survived(node_that_must_survive: Node) -> None:
    with association(node_that_must_survive) as opened:
        assert opened.is_established
