"""Programs that the tests need and Python's packages do not bring."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def required_tool(name: str, folders: Sequence[str] = ("/usr/sbin",)) -> str:
    """Path of a program that is no Python package's script; skip without it, or fail where peers are required.

    Parameters
    ----------
    name : str
        The program.
    folders : sequence of str
        Where to look beside ``PATH``.
    """
    scripts = Path(sys.executable).parent
    on_path = [folder for folder in os.get_exec_path() if Path(folder) != scripts]
    path = shutil.which(name, path=os.pathsep.join([*on_path, *folders]))
    if path is not None:
        return path
    message = f"{name} is not installed (Debian packages: dcmtk, orthanc, orthanc-dicomweb, postgresql, rsyslog)"
    if os.environ.get("ISCL_NODE_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)
