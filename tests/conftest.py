"""What several rooms' tests share: a bundle, series in folders, a spool, metrics."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from factories import ct_series
from prometheus_client import CollectorRegistry
from small_bundle import write_bundle

from iscl_node.metrics import Metrics
from iscl_node.store.spool import Spool


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """A test that ran a command in this process leaves logging to a stream that is closed by now."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def identity_bundle(tmp_path: Path) -> Path:
    """A bundle whose network gives back what it gets, for every profile of CT."""
    import torch

    bundle = write_bundle(tmp_path / "identity_bundle", {"_target_": "torch.nn.Identity"}, profile="full")
    for weights in ("model.pt", "abdomen.pt", "chest.pt"):
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
