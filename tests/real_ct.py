"""Every real CT Image on this machine: beside the repository, in pydicom, in pydicom-data; nothing is downloaded."""

import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from pydicom import dcmread
from pydicom.data.data_manager import external_data_sources
from pydicom.errors import InvalidDicomError

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.domain import CT_IMAGE_STORAGE, Derivation
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError, RejectInstanceError

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = frozenset({"CT_small.dcm", "693_UNCR.dcm", "explicit_VR-UN.dcm"})
PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


@cache
def real_ct_files() -> tuple[Path, ...]:
    """Paths of the files whose SOP Class is CT Image Storage, whether they are good or bad."""
    folders = [SHARED_DATA, PYDICOM_FILES, *(Path(each.data_path) for each in external_data_sources().values())]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return tuple(path for path in files if _is_ct_image(path))


def derived_files(paths: Sequence[Path], derivation: Derivation, noise_hu: float = 0.0) -> Iterator[tuple[Path, bytes]]:
    """The derived instance of each file that the node would take, with noise of this standard deviation removed."""
    random = np.random.default_rng(0)
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read_header(path.read_bytes())
                source = dcmread(path)
                select_series([source])
                hu = to_hu(source)
                removed = random.normal(0, noise_hu, hu.shape).astype(np.float32)
                yield path, encode(derive(source, hu - removed, derivation, NOW, NOW))
            except (RejectInstanceError, QuarantineSeriesError, IgnoreSeriesError):
                continue


def small_subset() -> list[Path]:
    return [path for path in real_ct_files() if path.name in SMALL]


def _is_ct_image(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dcmread(path, specific_tags=["SOPClassUID"]).get("SOPClassUID") == CT_IMAGE_STORAGE
        except (InvalidDicomError, OSError, ValueError, AttributeError, NotImplementedError):
            return False
