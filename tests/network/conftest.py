"""CT instances and metrics for the network tests."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from prometheus_client import CollectorRegistry
from pydicom.data import get_testdata_file

from iscl_node.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def ct_file() -> Path:
    return Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture
def make_ct_files(tmp_path: Path, ct_file: Path) -> Callable[[int], list[Path]]:
    """Copies of one CT instance, each with its own SOP Instance UID."""

    def make(count: int) -> list[Path]:
        folder = tmp_path / "outgoing"
        folder.mkdir()
        dataset = pydicom.dcmread(ct_file)
        paths = [folder / f"{number}.dcm" for number in range(count)]
        for number, path in enumerate(paths):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number + 1}"
            dataset.save_as(path)
        return paths

    return make
