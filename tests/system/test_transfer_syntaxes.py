"""Compressed series over real sockets: DCMTK compresses and sends, and the archive gets what it asked for."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from archive import RecordingArchive
from delivery import Series, assert_delivered, files_of, series_uid_of, wait_until_done
from node import Node, required_tool
from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

DCMTK = {
    ImplicitVRLittleEndian: (("dcmconv", "+ti"), "--propose-implicit"),
    ExplicitVRBigEndian: (("dcmconv", "+tb"), "--propose-big"),
    DeflatedExplicitVRLittleEndian: (("dcmconv", "+td"), "--propose-deflated"),
    RLELossless: (("dcmcrle",), "--propose-rle"),
    JPEGLosslessSV1: (("dcmcjpeg", "+e1"), "--propose-lossless"),
    JPEGLSLossless: (("dcmcjpls", "+el"), "--propose-jls-lossless"),
}
"""How DCMTK writes and sends each transfer syntax."""


@pytest.fixture(scope="module")
def open_archive() -> Iterator[RecordingArchive]:
    """An archive that takes RLE beside what is native, and no JPEG."""
    archive = RecordingArchive([RLELossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture(scope="module")
def compressing_node(
    tmp_path_factory: pytest.TempPathFactory, open_archive: RecordingArchive, bundle: Path
) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    node = Node(folder, open_archive.port, bundle, rule='transfer_syntax = "source"\n')
    node.start()
    yield node
    node.close()


def recode(series: Series, syntax: UID) -> None:
    """Give the files another transfer syntax, by DCMTK, which writes over them."""
    program, *options = DCMTK[syntax][0]
    for file in files_of(series):
        subprocess.run([required_tool(program), *options, file, file], check=True, capture_output=True)
        assert dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax


def received_in(node: Node, series: Series) -> set[str]:
    """The transfer syntaxes of what lies in the spool: storescu converts where it must."""
    received = node.files("done", series_uid_of(series))
    return {str(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID) for path in received}


@pytest.mark.parametrize("syntax", DCMTK, ids=lambda syntax: syntax.name)
def test_what_dcmtk_sends_is_denoised(
    syntax: UID, shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    series = make_series(2)
    recode(series, syntax)

    send(shared_node, files_of(series), DCMTK[syntax][1])
    wait_until_done(shared_node, series)
    assert received_in(shared_node, series) == {syntax}

    derived = assert_delivered(shared_node, shared_archive, series)
    for source, result in zip(series, derived, strict=True):
        np.testing.assert_array_equal(result.pixel_array, source.pixel_array)
        assert result.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_jpeg_2000_is_denoised(shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries) -> None:
    series = make_series(1)
    pixels = series[0].pixel_array
    series[0].compress(JPEG2000Lossless, generate_instance_uid=False)
    series[0].save_as(str(series[0].filename))

    send(shared_node, files_of(series), "--propose-j2k-lossless")
    wait_until_done(shared_node, series)
    assert received_in(shared_node, series) == {JPEG2000Lossless}

    (derived,) = assert_delivered(shared_node, shared_archive, series)
    np.testing.assert_array_equal(derived.pixel_array, pixels)


@pytest.mark.parametrize(
    ("syntax", "arrives_in"), [(RLELossless, RLELossless), (JPEGLosslessSV1, ExplicitVRLittleEndian)]
)
def test_compressed_as_the_source_where_the_archive_takes_it(
    syntax: UID,
    arrives_in: UID,
    compressing_node: Node,
    open_archive: RecordingArchive,
    make_series: MakeSeries,
) -> None:
    series = make_series(2)
    recode(series, syntax)

    send(compressing_node, files_of(series), DCMTK[syntax][1])
    wait_until_done(compressing_node, series)

    derived = assert_delivered(compressing_node, open_archive, series)
    for source, result in zip(series, derived, strict=True):
        assert result.file_meta.TransferSyntaxUID == arrives_in
        np.testing.assert_array_equal(result.pixel_array, source.pixel_array)


@pytest.mark.fault(
    "processing", "compressed pixels that are damaged", "quarantine; a good series that came with them is delivered"
)
def test_broken_pixels_are_set_aside_and_the_node_goes_on(
    shared_node: Node, shared_archive: RecordingArchive, make_series: MakeSeries
) -> None:
    broken, good = make_series(1, "broken"), make_series(1, "good")
    for series in (broken, good):
        recode(series, JPEGLosslessSV1)
    file = files_of(broken)[0]
    content = bytearray(file.read_bytes())
    content[-3000:-100] = bytes(2900)
    file.write_bytes(content)

    send(shared_node, files_of(broken), "--propose-lossless")
    send(shared_node, files_of(good), "--propose-lossless")
    wait_until_done(shared_node, good)

    assert_delivered(shared_node, shared_archive, good)
    shared_node.wait_for(lambda: shared_node.states(series_uid_of(broken)) == {"quarantine"}, "it is in quarantine")
    (reason,) = [
        each["reason"] for each in shared_node.status()["quarantine"] if each["series"] == series_uid_of(broken)
    ]
    assert "pixels" in reason
