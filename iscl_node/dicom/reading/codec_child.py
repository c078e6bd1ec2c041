"""The process in which codecs run: ``python -m iscl_node.dicom.reading.codec_child``, for ``decoding`` alone.

It reads requests from the socket that is its standard input and answers them one after the other until the socket is
closed. Codecs are large programs in C and C++ that get bytes from other machines: what goes wrong in them ends here,
within limits of memory and time, without a file that could be written and without the node's environment.
"""

import json
import os
import resource
import socket
import struct
import warnings
from dataclasses import asdict, dataclass
from typing import Final, Protocol

from iscl_node.dicom.reading.codec import PixelForm, decode, encode

DECODE: Final = "decode"
ENCODE: Final = "encode"

MEMORY_BYTES: Final = 1 << 30
"""Address space of the process. Libraries and codecs take some 300 MB of it; the largest CT image has 8 MB."""
CPU_SECONDS: Final = 60
"""Computing time for one request; the slowest, JPEG 2000 with 1024 x 1024 pixels, takes less than 2 s."""
OPEN_FILES: Final = 16
"""What is open when the libraries are loaded, and nearly nothing beyond."""

JPEG_DAMAGED: Final = b"Corrupt JPEG data"
"""How libjpeg's messages begin when a stream is damaged."""
RLE_DAMAGED: Final = "The decoded RLE segment contains non-conformant padding"
"""How pydicom's warning begins when a segment holds more bytes than the image: damage moves pixels that way."""

_STANDARD_ERROR: Final = 2
_COMPLAINTS_LENGTH: Final = 1 << 16
_LENGTHS: Final = struct.Struct(">II")
_ANSWER: Final = struct.Struct(">?I")
_REASON_LENGTH: Final = 100


class Connection(Protocol):
    """What is needed of a socket."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def recv(self, count: int, /) -> bytes:
        """Receive at most so many bytes; none at the end."""


@dataclass(frozen=True)
class Answer:
    """The bytes asked for, or, when ``is_done`` is false, the name of the exception."""

    is_done: bool
    content: bytes


DAMAGED: Final = Answer(False, b"DamagedPixels")


class ClosedError(Exception):
    """The other side is gone."""


def send_request(connection: Connection, operation: str, form: PixelForm, content: bytes) -> None:
    """Ask for ``decode`` or ``encode`` of ``codec``."""
    header = json.dumps({"operation": operation, **asdict(form)}).encode("ascii")
    connection.sendall(_LENGTHS.pack(len(header), len(content)) + header + content)


def receive_answer(connection: Connection, most_bytes: int) -> Answer:
    """Receive the answer to a request; nothing is believed of it but its length, up to ``most_bytes``.

    Raises
    ------
    ClosedError
        If the child is gone, or answers with more than that.
    """
    is_done, length = _ANSWER.unpack(_received(connection, _ANSWER.size))
    if length > most_bytes:
        raise ClosedError
    return Answer(is_done, _received(connection, length))


class Complaints:
    """What C libraries write to standard error, from now on.

    Only here libjpeg says that a stream is damaged: it goes on, and returns pixels that were never sent.
    """

    def __init__(self) -> None:
        self._read_end, write_end = os.pipe()
        for end in (self._read_end, write_end):
            os.set_blocking(end, False)
        os.dup2(write_end, _STANDARD_ERROR)
        os.close(write_end)

    def taken(self) -> bytes:
        """All that was written since it was last asked for."""
        try:
            return os.read(self._read_end, _COMPLAINTS_LENGTH)
        except BlockingIOError:
            return b""


def main() -> None:
    """Limit this process, then serve."""
    _limit()
    warnings.filterwarnings("error", RLE_DAMAGED)
    serve(socket.socket(fileno=0), Complaints())


def serve(connection: Connection, complaints: Complaints) -> None:
    """Answer requests until the other side closes the connection."""
    while True:
        try:
            request = _request(connection)
            complaints.taken()
            answer = _answer(*request)
            if JPEG_DAMAGED in complaints.taken():
                answer = DAMAGED
        except ClosedError:
            return
        connection.sendall(_ANSWER.pack(answer.is_done, len(answer.content)) + answer.content)


def _request(connection: Connection) -> tuple[str, PixelForm, bytes]:
    header_length, content_length = _LENGTHS.unpack(_received(connection, _LENGTHS.size))
    header = json.loads(_received(connection, header_length))
    return header.pop("operation"), PixelForm(**header), _received(connection, content_length)


def _answer(operation: str, form: PixelForm, content: bytes) -> Answer:
    _allow_more_cpu_time()
    try:
        return Answer(True, (decode if operation == DECODE else encode)(form, content))
    except Exception as error:  # noqa: BLE001 - codecs raise almost anything, and all of it means the same
        if RLE_DAMAGED in str(error):
            return DAMAGED
        return Answer(False, type(error).__name__.encode("ascii", "replace")[:_REASON_LENGTH])


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the image


def _allow_more_cpu_time() -> None:
    """The limit is on all that the process ever used: move it before each request."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _received(connection: Connection, count: int) -> bytes:
    """Receive exactly so many bytes."""
    received = bytearray()
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise ClosedError
        received += piece
    return bytes(received)


if __name__ == "__main__":
    main()
