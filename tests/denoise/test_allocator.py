"""Memory of freed arrays is kept where the C library is glibc."""

import ctypes
import subprocess
import sys

import pytest

from iscl_node.denoise import allocator

_FREE_AN_ARRAY = """
import re, sys
from pathlib import Path
from iscl_node.denoise.allocator import keep_freed_memory

if "keep" in sys.argv and not keep_freed_memory():
    sys.exit("the C library is not glibc")
import numpy as np

np.ones(1 << 24)  # 128 MiB, freed at once
print(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def resident_bytes(*arguments: str) -> int:
    """The memory of a process that has freed a large array."""
    command = [sys.executable, "-c", _FREE_AN_ARRAY, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "not glibc" in result.stderr:
        pytest.skip("the C library is not glibc")
    assert result.returncode == 0, result.stderr
    return int(result.stdout) * 1024


def test_memory_of_a_freed_array_stays() -> None:
    assert resident_bytes("keep") > resident_bytes() + (100 << 20)


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not allocator.keep_freed_memory()
