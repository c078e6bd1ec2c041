"""The headers of instances that came in or were made, kept in memory: what is known need not be read from disk again.

A header belongs to one file, under any name, as long as it is not written to. What is not kept, after a
restart or because there was no more room, is read once from the file.
"""

import threading
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from iscl_node.dicom.reading.folder import Instance, read_instance
from iscl_node.dicom.reading.kept_header import KeptHeader, kept_header

MOST_BYTES: Final = 64 << 20
"""Some ten thousand headers of CT Images."""

_Identity = tuple[int, int, int, int]


class KeptHeaders:
    """The headers that are kept, those that were used last.

    Parameters
    ----------
    most_bytes : int
        They take no more.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[_Identity, KeptHeader] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, path: Path, part10: bytes) -> None:
        """Keep the header of a file that has just been written; one that has moved on is read when needed."""
        try:
            identity = _identity(path)
        except FileNotFoundError:
            return
        header = kept_header(BytesIO(part10))
        if header is not None:
            self._keep(identity, header)

    def instance(self, path: Path) -> Instance:
        """Do as ``folder.read_instance``.

        Raises
        ------
        QuarantineSeriesError
            As ``folder.read_instance``.
        """
        header = self._header(path)
        return read_instance(path) if header is None else header.instance(path)

    def stream(self, path: Path) -> BinaryIO:
        """The file up to its last element, if that is long, or all of it; to be closed."""
        header = self._header(path)
        return path.open("rb") if header is None else BytesIO(header.start)

    def _header(self, path: Path) -> KeptHeader | None:
        identity = _identity(path)
        with self._lock:
            header = self._kept.get(identity)
            if header is not None:
                self._kept.move_to_end(identity)
                return header
        with path.open("rb") as stream:
            header = kept_header(stream)
        if header is not None:
            self._keep(identity, header)
        return header

    def _keep(self, identity: _Identity, header: KeptHeader) -> None:
        with self._lock:
            self._bytes += len(header.start) - self._size(identity)
            self._kept[identity] = header
            while self._bytes > self._most_bytes:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone.start)

    def _size(self, identity: _Identity) -> int:
        known = self._kept.get(identity)
        return 0 if known is None else len(known.start)


def _identity(path: Path) -> _Identity:
    status = path.stat(follow_symlinks=False)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
