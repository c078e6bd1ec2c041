"""The bundle as a download from the model zoo: its folder alone, under another name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from data_tree import write_data

BUNDLE = Path(__file__).parents[2] / "monai_bundle"

ALONE = """
import sys
sys.modules["monai_bundle"] = sys.modules["iscl_node"] = None  # as if the repository were not installed
from monai.bundle import ckpt_export, onnx_export, run, verify_net_in_out

FILES = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.json", "profile": "abdomen"}
TRAINING = {"clean_dir": "data/clean", "noisy_dir": "data/noisy", "max_iterations": 2, "batch_size": 2}
run("training", config_file="configs/train.json", **TRAINING)
run(config_file="configs/inference.json", profile="abdomen", dataset_dir="data/volumes", checkpoint="runs/model.pt")
verify_net_in_out("network_def", **FILES)
ckpt_export("network_def", ckpt_file="runs/model.pt", filepath="models/model.ts", **FILES)
onnx_export(args_file="configs/onnx_export.json")
"""


def test_training_inference_and_exports(tmp_path: Path) -> None:
    folder = tmp_path / "ct_iscl_denoising"
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("__pycache__", "runs", "eval", "*.ts", "*.onnx"))
    write_data(folder / "data")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("runs/model.pt", "eval/case_denoised.nii.gz", "models/model.ts", "models/model.onnx"):
        assert (folder / name).is_file(), name
