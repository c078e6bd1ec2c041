"""MONAI bundles without a model in them: one changes nothing, the other changes nothing slowly."""

import json
from pathlib import Path
from typing import Any

import torch

_SLOW_NETWORK = '''"""A network that takes its time."""

import time

from torch import nn


class SlowIdentity(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, hu):
        time.sleep(self.seconds)
        return hu
'''


def identity_bundle(folder: Path) -> Path:
    """Write a bundle whose result is its input."""
    return _bundle(folder, {"_target_": "torch.nn.Identity"})


def implausible_bundle(folder: Path) -> Path:
    """Write a bundle whose result is 500 HU everywhere."""
    return _bundle(folder, {"_target_": "torch.nn.Threshold", "threshold": 1e6, "value": 500.0})


def slow_bundle(folder: Path, seconds: float) -> Path:
    """Write a bundle with code of its own that needs so many seconds for a slice."""
    scripts = folder / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "__init__.py").touch()
    (scripts / "network.py").write_text(_SLOW_NETWORK)
    return _bundle(folder, {"_target_": "scripts.network.SlowIdentity", "seconds": seconds})


def _bundle(folder: Path, network: dict[str, Any]) -> Path:
    for name, content in (("metadata", {"name": "test", "version": "0"}), ("inference", {"network_def": network})):
        path = folder / "configs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "models").mkdir()
    torch.save({}, folder / "models" / "model.pt")
    return folder
