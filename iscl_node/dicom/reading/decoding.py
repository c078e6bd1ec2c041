"""Compressed pixels are decoded, and stored values compressed, in a process of their own with limits.

A broken or malicious image may make a codec crash, loop or take all memory: then its series is quarantined, the
process is started anew, and the node goes on. The process is started with the first request, as a fresh interpreter
that inherits nothing, is shared by all threads, and ends when the node does, however the node ends.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate

from iscl_node.dicom.reading.codec import PixelForm
from iscl_node.dicom.reading.codec_child import DECODE, ENCODE, Answer, ClosedError, receive_answer, send_request
from iscl_node.errors import QuarantineSeriesError, RetryLaterError

COMMAND: Final = (sys.executable, "-P", "-m", "iscl_node.dicom.reading.codec_child")
ANSWER_SECONDS: Final = 180
"""For one request: more than ``codec_child.CPU_SECONDS``, because the processor may be busy with something else."""
REMEMBERED_FRAMES: Final = 16
"""Decoded frames kept, of some 1 MB each: a slice is asked for when it is denoised and again when it is derived."""
MOST_OVERHEAD: Final = 2
"""A compressed frame of noise is larger than a native one, but not by more than this factor."""

_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "LANG")
_END_SECONDS: Final = 2
_SMALL_FRAME: Final = 4096


class CodecProcess:
    """The process of ``codec_child``, started when it is needed; calls are served one at a time.

    Parameters
    ----------
    command : sequence of str
        What to start.
    answer_seconds : float
        How long a request may take.
    """

    def __init__(self, command: Sequence[str] = COMMAND, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._command = tuple(command)
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._is_over = False

    def ask(self, operation: str, form: PixelForm, content: bytes) -> bytes:
        """Have a frame decoded or encoded, see ``codec``.

        Raises
        ------
        QuarantineSeriesError
            If the codec refuses the pixels, ends on them, or does not come to an end.
        RetryLaterError
            If the process cannot be started, or ``abandon`` ended it.
        """
        with self._lock:
            answer = self._answer(operation, form, content)
        if not answer.is_done:
            raise QuarantineSeriesError(f"the pixels cannot be {operation}d ({_name(answer.content)})")
        return answer.content

    def abandon(self) -> None:
        """End the process for good, without waiting for its running request: that says nothing about its pixels."""
        self._is_over = True
        child = self._child
        if child is not None:
            child.kill()

    def forget(self) -> None:
        """Leave the process to the one this one was forked from."""
        self._lock = threading.Lock()
        child, self._child = self._child, None
        if child is not None:
            child.connection.close()

    def _answer(self, operation: str, form: PixelForm, content: bytes) -> Answer:
        if self._child is not None and self._child.owes_answer:
            # Its request was given up, and this one would take the answer for its own: pixels of another image.
            self._end(longest_seconds=0)
        try:
            if self._child is not None:
                with contextlib.suppress(ClosedError, ConnectionError):
                    return self._child.ask(operation, form, content, self._answer_seconds)
                # Not these pixels need be the cause: it may have ended long ago, and by somebody else's hand.
                self._end()
            self._must_not_be_over()
            self._child = _Child(self._command)
            return self._child.ask(operation, form, content, self._answer_seconds)
        except (ClosedError, ConnectionError) as error:
            ending = self._end()
            self._must_not_be_over()
            raise QuarantineSeriesError(f"the codec crashed on these pixels ({ending})") from error
        except TimeoutError as error:
            self._end(longest_seconds=0)
            message = f"the codec did not come to an end with these pixels in {self._answer_seconds:g} s"
            raise QuarantineSeriesError(message) from error

    def _must_not_be_over(self) -> None:
        if self._is_over:
            raise RetryLaterError("the node ends, and with it the process that decodes pixels")

    def _end(self, longest_seconds: float = _END_SECONDS) -> str:
        """End the process and say how it ended."""
        child, self._child = self._child, None
        return "" if child is None else child.end(longest_seconds)


class _Child:
    """One life of the process."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.owes_answer = False
        try:
            self.connection, theirs = socket.socketpair()
            with theirs:
                self._process = _started(command, theirs)
        except OSError as error:
            raise RetryLaterError(f"the process that decodes pixels cannot be started: {error.strerror}") from error

    def ask(self, operation: str, form: PixelForm, content: bytes, seconds: float) -> Answer:
        connection = _Deadline(self.connection, seconds)
        self.owes_answer = True
        send_request(connection, operation, form, content)
        answer = receive_answer(connection, MOST_OVERHEAD * form.native_length + _SMALL_FRAME)
        self.owes_answer = False
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, longest_seconds: float) -> str:
        self.connection.close()
        try:
            status = self._process.wait(longest_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


class _Deadline:
    """A connection on which all that is sent and received must be done by one point in time."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._end = time.monotonic() + seconds

    def sendall(self, data: bytes, /) -> None:
        self._allow_what_is_left()
        self._connection.sendall(data)

    def recv(self, count: int, /) -> bytes:
        self._allow_what_is_left()
        return self._connection.recv(count)

    def _allow_what_is_left(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)


def decoded(form: PixelForm, pixel_data: bytes) -> npt.NDArray[np.int32]:
    """Decode one encapsulated frame.

    Parameters
    ----------
    form : PixelForm
        As the attributes of the Image Pixel Module say.
    pixel_data : bytes
        The value of Pixel Data, with one frame in it.

    Returns
    -------
    int32 array, shape (rows, columns)
        Stored values, not to be written to: the same array is given to all who ask for these pixels.

    Raises
    ------
    QuarantineSeriesError, RetryLaterError
        As ``CodecProcess.ask``.
    """
    return _decoded(form, pixel_data)


@lru_cache(REMEMBERED_FRAMES)
def _decoded(form: PixelForm, pixel_data: bytes) -> npt.NDArray[np.int32]:
    native = _process.ask(DECODE, form, pixel_data)
    if len(native) != form.native_length:
        raise QuarantineSeriesError("the codec gave another number of pixels than the attributes say")
    stored = np.frombuffer(native, "<i2" if form.is_signed else "<u2").reshape(form.rows, form.columns)
    array = stored.astype(np.int32)
    array.setflags(write=False)
    return array


def encoded(form: PixelForm, stored: npt.NDArray[np.int32]) -> bytes:
    """Compress one frame with the transfer syntax of the form, one of ``codec.ENCODERS``, and check it.

    Parameters
    ----------
    form : PixelForm
        Of the frame to be.
    stored : int32 array, shape (rows, columns)
        Values that fit the form's bits.

    Returns
    -------
    bytes
        The bit stream of the frame, not encapsulated. What it decodes to has been compared with ``stored``.

    Raises
    ------
    QuarantineSeriesError
        As ``CodecProcess.ask``, and when the compressed frame decodes to anything else.
    RetryLaterError
        As ``CodecProcess.ask``.
    """
    native = stored.astype("<i2" if form.is_signed else "<u2").tobytes()
    frame = _process.ask(ENCODE, form, native)
    if _process.ask(DECODE, form, encapsulate([frame])) != native:
        raise QuarantineSeriesError("the compressed pixels do not decode to what they were made of")
    return frame


def _started(command: tuple[str, ...], connection: socket.socket) -> "subprocess.Popen[bytes]":
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment["OPENBLAS_NUM_THREADS"] = "1"  # each thread takes address space, and nothing here uses them
    return subprocess.Popen(
        command,
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # the terminal's Ctrl-C is for the node, which ends this process when it is done
    )


def _name(content: bytes) -> str:
    """The name of an exception, if it is one: nothing else from there shall be read by a person."""
    text = content.decode("ascii", "replace")
    return text if text.isidentifier() else "no reason given"


_process: Final = CodecProcess()
atexit.register(_process.abandon)
os.register_at_fork(after_in_child=_process.forget)
