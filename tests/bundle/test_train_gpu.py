"""``make train-gpu`` on the processor with tiny sizes, and the archive for a machine elsewhere."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from image_files import write_ct

from monai_bundle.scripts.model.denoiser import ISCLDenoiser

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train_gpu.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, kind in enumerate(("clean", "noisy")):
        for number in range(2):
            write_ct(folder / kind / f"{number}.dcm", 10 * seed + number, side=80, PatientID=f"{kind}{number}")
    return folder


def run(script: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(script), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
def test_the_packed_recipe_leaves_weights_before_and_after_algorithm_1(data: Path, tmp_path: Path) -> None:
    run(SCRIPT, str(data), "--pack", str(tmp_path / "packed.tar.gz"))
    with tarfile.open(tmp_path / "packed.tar.gz") as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    elsewhere = tmp_path / "elsewhere"
    sizes = ("--minutes", "0.05", "--batch-size", "2", "--images", "2", "--fields", "1")
    run(elsewhere / "train_gpu.py", str(elsewhere / "data"), str(tmp_path / "out"), *sizes)
    before, after = (torch.load(tmp_path / "out" / f"{n}.pt", weights_only=True) for n in ("warm_start", "model"))
    for weights in (before, after):
        ISCLDenoiser("full", running_statistics=True).load_state_dict(weights)
    assert any((before[key] != after[key]).any() for key in before if key.startswith("f."))


def test_archive_holds_code_and_images_and_no_weights(data: Path, tmp_path: Path) -> None:
    run(SCRIPT, str(data), "--pack", str(tmp_path / "packed.tar.gz"))
    with tarfile.open(tmp_path / "packed.tar.gz") as archive:
        names = archive.getnames()
    assert {"train_gpu.py", "requirements.txt", "monai_bundle/configs/warm_start.json"} <= set(names)
    assert sorted(name for name in names if name.endswith(".nii.gz")) == [
        f"data/{kind}/{kind}{number}_{number}.nii.gz" for kind in ("clean", "noisy") for number in (0, 1)
    ]
    assert not [name for name in names if name.endswith(".pt")]
