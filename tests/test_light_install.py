"""What only training needs is an extra; what the node seldom needs is imported late."""

import json
import re
import subprocess
import sys
import tomllib

from surroundings import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {"pytorch-ignite": "ignite"}
"""Distributions that are imported under another name."""

_WITHOUT = """
import importlib, json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ABSENT = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Absent())
"""

_IMPORT = """
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""

_DENOISE = """
import numpy as np
from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.settings import INSTALLED_BUNDLE
print(json.dumps(load_bundle(INSTALLED_BUNDLE, "full", "cpu").denoise(np.zeros((32, 32), np.float32)).shape))
"""


def names_of(requirements: list[str]) -> set[str]:
    """What distributions are imported as."""
    found = {re.split(r"[^\w-]", each, maxsplit=1)[0] for each in requirements}
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in found}


TRAINING = names_of(PROJECT["optional-dependencies"]["train"])


def ran(program: str, *arguments: str) -> object:
    """Run a program without what only training needs, and return what it printed."""
    command = [sys.executable, "-c", _WITHOUT + program, json.dumps(sorted({*TRAINING, "grpc"})), *arguments]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_what_only_training_needs_is_an_extra() -> None:
    assert {"tensorboard", "fire", "nibabel", "ignite", "tqdm"} <= TRAINING
    assert not TRAINING & names_of(PROJECT["dependencies"])


def test_the_programs_import_without_what_only_training_needs() -> None:
    ran(_IMPORT, "iscl_node.offline", "iscl_node.demo.demonstration", "iscl_node.cli", "iscl_node.assessment.gate")


def test_the_installed_model_denoises_without_what_only_training_needs() -> None:
    assert ran(_DENOISE) == [32, 32]


def test_the_node_imports_late_what_it_seldom_needs() -> None:
    """What it needs for a picture in quarantine, a report, a simulation or a bundle of MONAI's networks."""
    imported = ran(_IMPORT, "iscl_node.service")
    assert isinstance(imported, list)
    assert "iscl_node.service" in imported
    assert not {"matplotlib", "skimage", "highdicom", "monai"} & set(imported)
