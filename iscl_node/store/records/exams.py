"""What was measured of each series, for as long as there is a spool: noise and dose by scanner, nothing of patients.

A file for each month and worker, ``exams/<year>-<month>.<worker>.jsonl``: a line when a series was measured, and one
when its derived series was. Lines of one batch have the same ``exam``, a hash with the key of the log, so that a
step that is done twice counts no examination twice; the later value of a key counts.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from iscl_node.domain import Batch
from iscl_node.logs import hashed
from iscl_node.store import tree
from iscl_node.store.durable import append_synced, make_folder
from iscl_node.store.layout import name_for
from iscl_node.store.log_key import made_log_key

FOLDER: Final = "exams"
_MOST: Final = 100_000
"""Examinations that are read at most, the newest: about 100 MB of memory."""

_log = structlog.get_logger(__name__)

Exam = Mapping[str, Any]


class Exams:
    """Writes the lines of one worker, and reads those of all; safe to be used by several threads.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    worker : str
        Who writes.
    """

    def __init__(self, root: Path, worker: str = "node") -> None:
        self._root = root
        self._folder = root / FOLDER
        self._worker = name_for(worker)
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[int, dict[str, dict[str, Any]]]] = {}

    def note(self, batch: Batch, facts: Mapping[str, Any]) -> None:
        """Add what was measured; where the disk refuses it the series goes on without."""
        now = datetime.now(UTC)
        path = self._folder / f"{now:%Y-%m}.{self._worker}.jsonl"
        try:
            exam = hashed(made_log_key(self._root), batch.workflow_id)
            entry = {"time": now.isoformat(timespec="seconds"), "exam": exam, **facts}
            make_folder(self._folder)
            append_synced(path, json.dumps(entry).encode() + b"\n")
        except OSError as error:
            _log.warning("exam.not_recorded", fault=type(error).__name__)

    def since(self, begin: datetime) -> list[Exam]:
        """The examinations whose measuring began at a time or later, oldest first."""
        first_month = f"{begin.astimezone(UTC) - timedelta(days=1):%Y-%m}"
        found: dict[str, dict[str, Any]] = {}
        for path in reversed(tree.files(self._folder, ".jsonl")):
            if path.name[:7] < first_month or len(found) >= _MOST:
                break
            for exam, facts in self._read(path).items():
                later = found.get(exam, facts)
                found[exam] = {**facts, **later, "time": min(facts["time"], later["time"])}
        least = begin.astimezone(UTC).isoformat(timespec="seconds")
        return sorted((each for each in found.values() if each["time"] >= least), key=lambda each: each["time"])

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        """The examinations of a file, which only grows: it is read again when it did."""
        with self._lock, suppress(OSError):
            size = path.stat().st_size
            known_size, known = self._files.get(path, (-1, {}))
            if known_size != size:
                known = _merged(tree.read_bytes(path))
                self._files[path] = size, known
            return known
        return {}


def _merged(content: bytes) -> dict[str, dict[str, Any]]:
    exams: dict[str, dict[str, Any]] = {}
    for line in _lines(content):
        known = exams.get(line["exam"], line)
        exams[line["exam"]] = {**known, **line, "time": known["time"]}
    return exams


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    """The lines; what was torn by a kill is passed over."""
    for line in content.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("exam", "time")):
                yield entry
