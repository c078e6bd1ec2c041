"""The judge lets pass what the shipped model makes of the good series of real data."""

from pathlib import Path

import pytest

from iscl_node.offline import Denoising, FinishedSeries, RefusedSeries, denoise_folder
from iscl_node.settings import INSTALLED_BUNDLE

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"
PATIENTS = ("A002304", "A027284", "A046441", "A048383", "A056642", "A062055")
FOLDERS = (*(f"chest_abdomen/{patient}" for patient in PATIENTS), "head_gantry_tilt")


@pytest.mark.long
@pytest.mark.parametrize("folder", FOLDERS)
def test_good_series_pass(folder: str, tmp_path: Path) -> None:
    if not (SHARED_DATA / folder).is_dir():
        pytest.skip(f"no real CT images in {SHARED_DATA / folder}")
    outcomes = list(
        denoise_folder(SHARED_DATA / folder, tmp_path, Denoising(INSTALLED_BUNDLE, "abdomen", (1.0,), " ISCL", "auto"))
    )
    assert [each for each in outcomes if isinstance(each, RefusedSeries)] == []
    assert any(isinstance(each, FinishedSeries) for each in outcomes)
