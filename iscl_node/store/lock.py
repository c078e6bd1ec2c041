"""One node works on a spool: it holds a file lock (flock(2)), which ends with its process, however that ends.

Nodes with PostgreSQL share it: who has which name is kept there, see `iscl_node.pipeline.engine.leases`.
"""

import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from iscl_node.errors import ConfigurationError

LOCK_FILE = "node.lock"
_UNKNOWN = "another process"


def hold(root: Path, worker: str, *, is_shared: bool) -> BinaryIO:
    """Take the lock of the spool in ``root``, for as long as the returned file is open.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    worker : str
        Who takes it.
    is_shared : bool
        Whether other nodes that share it may work on the spool at the same time.

    Raises
    ------
    ConfigurationError
        Another process holds it; the message says which.
    OSError
        The file cannot be made.
    """
    path = root / LOCK_FILE
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    file = open(os.open(path, flags, 0o600), "r+b", buffering=0)  # noqa: PTH123, SIM115 - flags; stays open
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(file)
        file.close()
        advice = "several nodes on it need PostgreSQL, all of them, see database_url"
        raise ConfigurationError(f"the spool {root} is in use by {holder}, which holds {path.name}; {advice}") from None
    with suppress(OSError):  # the lock counts, not its text: a full disk must not keep the node from starting
        file.truncate(0)
        file.write(json.dumps({"worker": worker, "host": socket.gethostname(), "pid": os.getpid()}).encode() + b"\n")
    return file


def _holder(file: BinaryIO) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(file.read())
        return f"node {told['worker']!r} (process {told['pid']} on {told['host']})"
    return _UNKNOWN
