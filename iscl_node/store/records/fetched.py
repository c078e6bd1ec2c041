"""What was fetched from a peer's archive: a file of the spool, so that fetching goes on where it ended.

::

    fetched.jsonl     one JSON object a line, in the order in which it happened: a series that was fetched, why one was
                      not, and a study of which all was tried and fetched

A last line that was torn by a kill is passed over: its series is fetched once more.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from iscl_node.store.durable import append_synced
from iscl_node.store.tree import read_bytes

FETCHED_FILE: Final = "fetched.jsonl"


class Fetched:
    """The record of one peer.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    peer : str
        Its name.
    choice : str
        Which series of a study are wanted: a study is done only for this choice.
    is_new : bool
        Whether what was fetched before does not count.
    """

    def __init__(self, root: Path, peer: str, choice: str, *, is_new: bool = False) -> None:
        self._path = root / FETCHED_FILE
        self._peer = peer
        self._choice = choice
        self._done: set[tuple[str, str]] = set()
        if is_new:
            return
        with suppress(FileNotFoundError):
            for line in read_bytes(self._path).splitlines():
                self._read(line)

    def _read(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            is_wanted = entry.get("series") or entry.get("choice") == self._choice
            if entry["peer"] == self._peer and entry["event"] == "fetched" and is_wanted:
                self._done.add((entry["study"], entry.get("series", "")))

    def has(self, study_uid: str, series_uid: str = "") -> bool:
        """Whether a series, or all of a study, was fetched."""
        return (study_uid, series_uid) in self._done

    def note(self, study_uid: str, series_uid: str = "", instances: int = 0, reason: str = "") -> None:
        """Write down that a series, or all of a study, was fetched; or with a reason that it was not.

        Raises
        ------
        OSError
            The disk refuses it.
        """
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": "failed" if reason else "fetched",
            "peer": self._peer,
            "study": study_uid,
            **({"series": series_uid, "instances": instances} if series_uid else {"choice": self._choice}),
            **({"reason": reason} if reason else {}),
        }
        append_synced(self._path, json.dumps(entry).encode() + b"\n")
        if not reason:
            self._done.add((study_uid, series_uid))
