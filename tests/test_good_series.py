"""The judge lets pass what the shipped model makes of the good series of real data, clean ones and phantoms too."""

from pathlib import Path

import pytest

from iscl_node.domain.strength import AutoStrength
from iscl_node.offline import Denoising, FinishedSeries, RefusedSeries, denoise_folder
from iscl_node.settings import INSTALLED_BUNDLE

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"
PATIENTS = ("A002304", "A027284", "A046441", "A048383", "A056642", "A062055")
FOLDERS = (
    *(f"chest_abdomen/{patient}" for patient in PATIENTS),
    "head_gantry_tilt",
    "tcia/Lung-PET-CT-Dx/Lung_Dx-A0001/kernel_B",  # Philips
    "tcia/phantom-ATCM-CCT228",
    "tcia/phantom-RANDO",
    "tcia/phantom-rt-utils",
)


@pytest.mark.long
@pytest.mark.parametrize("folder", FOLDERS)
def test_good_series_pass(folder: str, tmp_path: Path) -> None:
    if not (SHARED_DATA / folder).is_dir():
        pytest.skip(f"no real CT images in {SHARED_DATA / folder}")
    denoising = Denoising(INSTALLED_BUNDLE, "full", (AutoStrength(),), " ISCL", "auto")
    outcomes = list(denoise_folder(SHARED_DATA / folder, tmp_path, denoising))
    assert [each for each in outcomes if isinstance(each, RefusedSeries)] == []
    assert any(isinstance(each, FinishedSeries) for each in outcomes)
