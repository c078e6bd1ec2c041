"""What several rooms' tests share: small bundles, series in folders, a spool, and what to do without peers."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from factories import ct_series
from prometheus_client import CollectorRegistry

from iscl_node.metrics import Metrics
from iscl_node.store.spool import Spool

REPOSITORY = Path(__file__).parents[1]
PEERS_REQUIRED = os.environ.get("ISCL_NODE_REQUIRE_PEERS") == "1"
"""Set in CI: a program that a test needs must be there, and its absence is a failure instead of a skip."""


def required_program(name: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails where nothing may be skipped."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed (Debian package {package}); as root, make test installs it"
        if PEERS_REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def write_bundle(folder: Path, network_def: dict[str, object], **top_level: object) -> Path:
    """Write a bundle that computes ``network_def``, without weights."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {"network_def": network_def, **top_level}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"name": "identity", "version": "1.0.0"}))
    return folder


@pytest.fixture
def identity_bundle(tmp_path: Path) -> Path:
    """A bundle whose network gives back what it gets, for the profiles abdomen and chest."""
    import torch

    bundle = write_bundle(tmp_path / "identity_bundle", {"_target_": "torch.nn.Identity"})
    for weights in ("model.pt", "chest.pt"):
        torch.save({}, bundle / "models" / weights)
    return bundle


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    """Write a synthetic CT series of ``count`` slices into a folder; further arguments as in ``ct_dataset``."""

    def write(count: int = 3, folder: str = "series", **overrides: object) -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        for dataset in ct_series(count, **overrides):
            dataset.save_as(target / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        return target

    return write


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.open(tmp_path / "spool", min_free_bytes=0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())
