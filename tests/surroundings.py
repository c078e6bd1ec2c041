"""What the tests find around them: the repository, and programs that may be missing."""

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PEERS_REQUIRED = os.environ.get("ISCL_NODE_REQUIRE_PEERS") == "1"
"""Set in CI: a program that a test needs must be there, and its absence is a failure instead of a skip."""


def required_program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails where nothing may be skipped."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed (Debian package {package}); as root, make test installs it"
    if PEERS_REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)
