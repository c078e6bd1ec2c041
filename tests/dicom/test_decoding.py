"""Codecs run in a process of their own: what they do to it must not touch the node, and it costs little."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compression import compressed
from factories import ct_dataset, soft_tissue
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, RLELossless

from iscl_node.dicom.reading import codec_child, decoding
from iscl_node.dicom.reading.codec import ENCODERS, PixelForm
from iscl_node.dicom.reading.codec_child import DECODE, ENCODE
from iscl_node.dicom.reading.decoding import COMMAND, CodecProcess, decoded, encoded
from iscl_node.errors import QuarantineSeriesError, RetryLaterError

FORM = PixelForm(JPEGLSLossless, 64, 64, 16, True)


@pytest.fixture(scope="module")
def process() -> Iterator[CodecProcess]:
    process = CodecProcess()
    yield process
    process.abandon()


def frame(seed: int = 0) -> tuple[bytes, bytes]:
    """One image, native and compressed."""
    dataset = ct_dataset(soft_tissue(seed))
    return dataset.PixelData, compressed(dataset, JPEGLSLossless).PixelData


def script(body: str) -> tuple[str, ...]:
    """A child that does something else when it is asked."""
    return sys.executable, "-c", f"import os, socket, time; s = socket.socket(fileno=0); s.recv(1); {body}"


def pid_of(process: CodecProcess) -> int:
    child = process._child
    assert child is not None
    return child._process.pid


def test_stored_values_come_back() -> None:
    native, pixel_data = frame()
    array = decoded(FORM, pixel_data)
    assert array.dtype == np.int32
    assert array.astype("<i2").tobytes() == native


def test_decoded_values_are_remembered_and_cannot_be_written_to() -> None:
    _, pixel_data = frame()
    array = decoded(FORM, pixel_data)
    assert decoded(FORM, bytes(bytearray(pixel_data))) is array
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_one_process_serves_many_requests_of_many_threads(process: CodecProcess) -> None:
    frames = [frame(seed) for seed in range(8)]
    process.ask(DECODE, FORM, frames[0][1])
    pid = pid_of(process)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda each: process.ask(DECODE, FORM, each[1]), frames * 4))
    assert answers == [native for native, _ in frames * 4]
    assert pid_of(process) == pid


@pytest.mark.fault("processing", "compressed pixels that end early", "quarantine; the decoding process goes on")
def test_broken_pixels_are_refused_and_the_process_goes_on(process: CodecProcess) -> None:
    native, pixel_data = frame()
    process.ask(DECODE, FORM, pixel_data)
    pid = pid_of(process)
    with pytest.raises(QuarantineSeriesError, match=r"the pixels cannot be decoded \(RuntimeError\)"):
        process.ask(DECODE, FORM, pixel_data[:200])
    assert process.ask(DECODE, FORM, pixel_data) == native
    assert pid_of(process) == pid


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, RLELossless])
@pytest.mark.fault(
    "processing",
    "400 bytes of compressed pixels are overwritten, at many places",
    "quarantine, never pixels that were not sent",
)
def test_damage_that_a_codec_notices_is_never_pixels(syntax: str, process: CodecProcess) -> None:
    """libjpeg and pydicom's RLE decoder go on after damage; neither may give pixels that nobody sent."""
    form = PixelForm(syntax, 64, 64, 16, True)
    whole = encapsulate([encoded(form, soft_tissue().astype(np.int32))])
    for start in range(1000, len(whole) - 600, 500):
        damaged = whole[:start] + bytes(400) + whole[start + 400 :]
        with pytest.raises(QuarantineSeriesError, match="cannot be decoded"):
            process.ask(DECODE, form, damaged)
    assert process.ask(DECODE, form, whole) == soft_tissue().tobytes()


@pytest.mark.fault(
    "processing",
    "an RLE segment of more pixels than the image",
    "quarantine",
)
def test_rle_segment_of_more_pixels_than_the_image_is_told_as_damage(process: CodecProcess) -> None:
    form = PixelForm(RLELossless, 64, 64, 16, True)
    whole = encapsulate([encoded(form, soft_tissue().astype(np.int32))])
    with pytest.raises(QuarantineSeriesError, match=r"the pixels cannot be decoded \(DamagedPixels\)"):
        process.ask(DECODE, replace(form, rows=63), whole)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.abort()", r"crashed on these pixels \(SIGABRT\)"),
        ("os._exit(3)", r"crashed on these pixels \(exit status 3\)"),
        ("s.sendall(b'\\x01\\xff\\xff\\xff\\xff' + bytes(99))", "crashed on these pixels"),
        ("time.sleep(60)", r"did not come to an end with these pixels in 0\.5 s"),
    ],
)
@pytest.mark.fault(
    "processing", "the decoding process crashes, answers garbage or hangs", "quarantine in time, with what happened"
)
def test_child_that_crashes_lies_or_hangs_quarantines_the_series(body: str, message: str) -> None:
    process = CodecProcess(script(body), answer_seconds=0.5 if "sleep" in body else 30)
    start = time.monotonic()
    with pytest.raises(QuarantineSeriesError, match=message):
        process.ask(DECODE, FORM, bytes(1_000_000))
    assert time.monotonic() - start < 10


@pytest.mark.fault("processing", "the decoding process has crashed", "the next pixels are decoded by a new one")
def test_crashed_child_is_followed_by_another(monkeypatch: pytest.MonkeyPatch, process: CodecProcess) -> None:
    native, pixel_data = frame()
    monkeypatch.setattr(process, "_command", script("os.abort()"))
    process.ask(DECODE, FORM, pixel_data)
    os.kill(pid_of(process), signal.SIGKILL)
    with pytest.raises(QuarantineSeriesError):
        process.ask(DECODE, FORM, pixel_data)
    monkeypatch.setattr(process, "_command", COMMAND)
    assert process.ask(DECODE, FORM, pixel_data) == native


@pytest.mark.fault("processing", "the decoding process is killed between two requests", "the next pixels are decoded")
def test_child_that_was_killed_between_two_requests_costs_no_series(process: CodecProcess) -> None:
    native, pixel_data = frame()
    process.ask(DECODE, FORM, pixel_data)
    os.kill(pid_of(process), signal.SIGKILL)
    assert process.ask(DECODE, FORM, pixel_data) == native


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
@pytest.mark.fault(
    "processing", "a request to the decoding process is given up", "its answer is not taken for another's"
)
def test_answer_to_a_request_that_was_given_up_is_nobody_elses(
    interruption: type[BaseException], process: CodecProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, first_data), (second, second_data) = frame(1), frame(2)
    assert process.ask(DECODE, FORM, first_data) == first

    def interrupted(*_: object) -> None:
        raise interruption

    with monkeypatch.context() as patched:
        patched.setattr(decoding, "receive_answer", interrupted)
        with pytest.raises(interruption):
            process.ask(DECODE, FORM, first_data)
    assert process.ask(DECODE, FORM, second_data) == second


@pytest.mark.fault("processing", "the decoding process cannot be started", "tried again later")
def test_program_that_cannot_be_started_is_tried_again_later() -> None:
    with pytest.raises(RetryLaterError, match="cannot be started"):
        CodecProcess(("/no/such/program",)).ask(DECODE, FORM, b"")


@pytest.mark.fault(
    "processing", "a compressed image claims 40,000 x 40,000 pixels", "quarantine, within the process's limit of memory"
)
def test_memory_is_limited(process: CodecProcess) -> None:
    """An image that claims to be huge: RLE makes the codec allocate before it looks."""
    huge = PixelForm(RLELossless, 40_000, 40_000, 16, True)
    _, pixel_data = frame()
    with pytest.raises(QuarantineSeriesError):
        process.ask(DECODE, huge, pixel_data)
    peak = next(line for line in Path(f"/proc/{pid_of(process)}/status").read_text().splitlines() if "VmPeak" in line)
    assert int(peak.split()[1]) * 1024 <= codec_child.MEMORY_BYTES


@pytest.mark.fault("processing", "a codec computes for ever", "the process has a limit of computing time")
def test_computing_time_is_limited(process: CodecProcess) -> None:
    _, pixel_data = frame()
    process.ask(DECODE, FORM, pixel_data)
    limits = Path(f"/proc/{pid_of(process)}/limits").read_text()
    soft = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max cpu time"))
    assert 0 < int(soft) <= 2 * codec_child.CPU_SECONDS


def test_child_knows_nothing_of_the_node(process: CodecProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISCL_NODE__DATABASE_URL", "postgresql://user:password@host/db")
    _, pixel_data = frame()
    process.ask(DECODE, FORM, pixel_data)
    assert b"ISCL_NODE" not in Path(f"/proc/{pid_of(process)}/environ").read_bytes()
    libraries = Path(f"/proc/{pid_of(process)}/maps").read_text()
    assert "gdcm" in libraries
    assert "torch" not in libraries


NODE = f"""
import os, signal, sys
from pydicom.encaps import encapsulate
from iscl_node.dicom.reading import decoding
from iscl_node.dicom.reading.codec import PixelForm

def ask():
    form = PixelForm({str(RLELossless)!r}, 2, 2, 16, True)
    frame = decoding._process.ask("encode", form, b"12345678")
    assert decoding._process.ask("decode", form, encapsulate([frame])) == b"12345678"
    return decoding._process._child._process.pid
"""
"""A program that uses the process, to be ended in the middle or to be forked."""


def run_node(program: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", NODE + program]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


SLEEPER = script("time.sleep(60)")


@pytest.mark.fault(
    "machine",
    "the node ends while a codec hangs",
    "it does not wait, and the decoding process is gone",
)
def test_node_does_not_wait_for_a_request_in_hand() -> None:
    start = time.monotonic()
    done = run_node(f"""
import threading, time
process = decoding._process
process._command = {SLEEPER!r}
form = PixelForm({str(RLELossless)!r}, 2, 2, 16, True)
threading.Thread(target=process.ask, args=("decode", form, b"12"), daemon=True).start()
while process._child is None or not process._child.owes_answer:
    time.sleep(0.01)
print(process._child._process.pid)
""")
    assert is_gone(int(done.stdout)), done.stderr
    assert time.monotonic() - start < 30


@pytest.mark.fault(
    "machine",
    "the node ends while pixels are decoded",
    "the request is to be tried again",
)
def test_request_that_was_abandoned_is_to_be_tried_again() -> None:
    process = CodecProcess(SLEEPER)
    with ThreadPoolExecutor(1) as thread:
        request = thread.submit(process.ask, DECODE, FORM, b"12")
        while process._child is None or not process._child.owes_answer:
            time.sleep(0.01)
        process.abandon()
        with pytest.raises(RetryLaterError, match="the node ends"):
            request.result(30)
    with pytest.raises(RetryLaterError, match="the node ends"):
        process.ask(DECODE, FORM, b"12")


def is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


@pytest.mark.parametrize("end", ["sys.exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
@pytest.mark.fault("machine", "the node exits, aborts or is killed", "the decoding process ends with it")
def test_process_ends_with_the_node_however_that_ends(end: str) -> None:
    done = run_node(f"print(ask(), flush=True); {end}")
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(pid)


def test_forked_process_starts_its_own() -> None:
    done = run_node(
        """
mine = ask()
if os.fork() == 0:
    os._exit(0 if ask() != mine else 1)
assert os.wait()[1] == 0
assert ask() == mine
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("is_signed", [False, True])
def test_encoded_frames_decode_to_the_same(syntax: str, is_signed: bool) -> None:
    stored = soft_tissue().astype(np.int32) - (1000 if is_signed else 0)
    stored = np.clip(stored, -2048 if is_signed else 0, 2047)
    form = PixelForm(syntax, 64, 64, 12, is_signed)
    assert (decoded(form, encapsulate([encoded(form, stored)])) == stored).all()


@pytest.mark.fault(
    "processing", "a compressed frame does not decode to what it was made of", "quarantine; it is not used"
)
def test_frame_that_does_not_come_back_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decoding._process.ask

    def other_pixels(operation: str, form: PixelForm, content: bytes) -> bytes:
        answer = real(operation, form, content)
        return answer if operation == ENCODE else bytes(len(answer))

    monkeypatch.setattr(decoding._process, "ask", other_pixels)
    with pytest.raises(QuarantineSeriesError, match="do not decode to what they were made of"):
        encoded(PixelForm(JPEGLosslessSV1, 64, 64, 16, True), soft_tissue().astype(np.int32))
