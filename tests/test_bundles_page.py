"""docs/bundles.md: the example is a bundle that the node runs."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from phantom import anatomy, noise
from scipy import ndimage
from surroundings import REPOSITORY

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.dicom.judging.noise_level import noise_level_hu
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain.strength import AutoStrength
from iscl_node.offline import Denoising, FinishedSeries, WrittenInstance, denoise_folder

PAGE = (REPOSITORY / "docs" / "bundles.md").read_text(encoding="utf-8")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "gaussian"
    config, metadata, network, weights = re.findall(r"```(?:json|python)\n(.*?)```", PAGE, re.DOTALL)
    files = {
        "configs/inference.json": config,
        "configs/metadata.json": metadata,
        "scripts/__init__.py": "",
        "scripts/gaussian.py": network,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "models").mkdir()
    subprocess.run([sys.executable, "-c", weights], cwd=folder, check=True, timeout=120)
    return folder


def test_the_example_computes_what_it_says(bundle: Path) -> None:
    denoiser = load_bundle(bundle, "whatever it is called", "cpu")
    image = anatomy()
    expected = ndimage.gaussian_filter(image, 0.8, radius=3, mode="nearest")
    np.testing.assert_allclose(denoiser.denoise(image), expected, atol=0.01)
    assert (denoiser.model.name, denoiser.model.version) == ("Gaussian filter", "1.0.0")


def test_the_node_denoises_with_the_example(bundle: Path, write_series: Callable[..., Path], tmp_path: Path) -> None:
    """On a series of low contrast: at edges a Gaussian filter takes more away than the judge lets pass."""
    body = (40 + 0.03 * ndimage.gaussian_filter(anatomy(), 2) + noise(25, seed=0)).astype(np.float32)
    source = write_series(2, pixels=np.rint(body + 1024).astype(np.int16))
    denoising = Denoising(bundle, "full", (AutoStrength(10),), " SOFT", "cpu")
    outcomes = list(denoise_folder(source, tmp_path / "out", denoising))
    assert [type(each) for each in outcomes][1:] == [WrittenInstance, WrittenInstance, FinishedSeries]
    for path in (tmp_path / "out").rglob("*.dcm"):
        derived = pydicom.dcmread(path)
        assert "model Gaussian filter 1.0.0" in derived.DerivationDescription
        before, after = noise_level_hu(body), noise_level_hu(to_hu(derived))
        assert before is not None
        assert after is not None
        assert after < 0.8 * before
