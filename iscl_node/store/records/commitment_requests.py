"""What senders ask to be kept: a file for each request, until it is reported on."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from iscl_node.domain import InstanceReference
from iscl_node.domain.commitment import CommitmentRequest
from iscl_node.store import tree
from iscl_node.store.durable import make_folder, replace_synced
from iscl_node.store.layout import name_for

FOLDER: Final = "commitment_requests"


class CommitmentRequests:
    """Keeps them.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    def keep(self, request: CommitmentRequest) -> None:
        """Write one down, durably; the same again changes nothing but its time.

        Raises
        ------
        OSError
            The disk refuses it.
        """
        make_folder(self._folder)
        replace_synced(self._path(request), json.dumps(asdict(request)).encode() + b"\n")

    def waiting(self) -> Iterator[CommitmentRequest]:
        """Those that are not reported on; a file that is none of them is passed over."""
        for path in tree.files(self._folder, ".json"):
            with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
                entry = json.loads(tree.read_bytes(path))
                instances = tuple(InstanceReference(**each) for each in entry.pop("instances"))
                yield CommitmentRequest(instances=instances, **entry)

    def remove(self, request: CommitmentRequest) -> None:
        """It is reported on."""
        self._path(request).unlink(missing_ok=True)

    def _path(self, request: CommitmentRequest) -> Path:
        return self._folder / f"{name_for(f'{request.transaction_uid} {request.ae_title}')}.json"
