"""Counts how often a program opens each DICOM file for reading, from its audit events (PEP 578).

The folder of `counting` goes first on PYTHONPATH: Python imports ``sitecustomize`` from there before the program.
"""

import json
from collections.abc import Mapping
from pathlib import Path

_SITECUSTOMIZE = """\
import os, sys

def count(event, arguments, log=os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)):
    if event == "open" and str(arguments[0]).endswith(".dcm") and not arguments[2] & os.O_ACCMODE:
        os.write(log, (os.path.basename(str(arguments[0])) + "\\n").encode())

sys.addaudithook(count)
"""


class OpenCounter:
    """Prepares a folder for PYTHONPATH, and reads what was counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "opens.log"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(log=str(self._log)))

    def counts(self) -> Mapping[str, int]:
        """Opens by the name of the file."""
        names = self._log.read_text().splitlines()
        return {name: names.count(name) for name in set(names)}


def as_text(counts: Mapping[str, int]) -> str:
    """For a failing test."""
    return json.dumps(dict(sorted(counts.items(), key=lambda each: -each[1])), indent=1)
