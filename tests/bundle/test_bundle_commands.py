"""The bundle's commands as a user types them, on synthetic CT: train, resume, denoise."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from factories import ct_dataset, part10, soft_tissue

from monai_bundle.scripts.model.denoiser import ISCLDenoiser

REPOSITORY = Path(__file__).parents[2]
BUNDLE = REPOSITORY / "monai_bundle"


def monai_bundle(*arguments: str, cwd: Path = BUNDLE) -> subprocess.CompletedProcess[str]:
    """Run ``python -m monai.bundle`` and return what it did."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``clean`` and ``noisy`` of CT slices, ``volumes`` with one NIfTI file."""
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("clean", 0), ("noisy", 10)):
        (folder / name).mkdir()
        for number in range(2):
            dataset = ct_dataset(soft_tissue(seed=seed + number, side=80), InstanceNumber=number + 1, PatientID=name)
            (folder / name / f"{number}.dcm").write_bytes(part10(dataset))
    (folder / "volumes").mkdir()
    volume = np.random.default_rng(0).normal(0, 300, (20, 22, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.7, 0.8, 5.0, 1.0])), folder / "volumes" / "case.nii.gz")
    return folder


def train(data: Path, iterations: int, output: Path, *more: str, cwd: Path = BUNDLE) -> str:
    done = monai_bundle(
        *("run", "training", *more, "--clean_dir", str(data / "clean"), "--noisy_dir", str(data / "noisy")),
        *("--max_iterations", str(iterations), "--checkpoint_iterations", "2", "--batch_size", "2"),
        *("--output_dir", str(output)),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a training of four iterations, started from the root of the repository."""
    folder = tmp_path_factory.mktemp("trained")
    paths = ("--bundle_root", "--meta_file", "--config_file")
    names = ("monai_bundle", "monai_bundle/configs/metadata.json", "monai_bundle/configs/train.json")
    train(data, 4, folder, *(word for pair in zip(paths, names, strict=True) for word in pair), cwd=REPOSITORY)
    return folder


def test_training_from_the_repository_resumes_inside_the_bundle(data: Path, trained: Path) -> None:
    first = torch.load(trained / "checkpoint.pt", weights_only=True)
    assert first["iteration"] == 4
    assert first["averaged"]["n_averaged"] == 3  # from iteration int(0.6 * 4) on
    assert first["fg_optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-6)

    log = train(data, 6, trained, "--config_file", "configs/train.json")
    assert f"going on from {trained / 'checkpoint.pt'}, iteration 4" in log
    resumed = torch.load(trained / "checkpoint.pt", weights_only=True)
    assert resumed["iteration"] == 6
    assert resumed["fg_optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-6)
    assert not torch.equal(first["denoiser"]["f.1.weight"], resumed["denoiser"]["f.1.weight"])
    assert any(path.name.startswith("events.out.tfevents") for path in trained.iterdir())


def test_training_begins_with_the_weights_of_a_warm_start(data: Path, tmp_path: Path) -> None:
    files = {part: tmp_path / part / "model.pt" for part in ("f", "g")}
    for part, file in files.items():
        done = monai_bundle(
            *("run", "training", "--config_file", "configs/warm_start.json", "--part", part),
            *("--clean_dir", str(data / "clean"), "--max_iterations", "2", "--batch_size", "2"),
            *("--output_dir", str(file.parent)),
        )
        assert done.returncode == 0, done.stderr[-3000:]
    f, g = (torch.load(file, weights_only=True)["1.weight"] for file in files.values())
    options = ("--initial_f", str(files["f"]), "--running_statistics", "True", "--learning_rate", "1e-12")
    both = (*options, "--initial_g", str(files["g"]))
    for number, given in enumerate((options, both)):
        train(data, 2, tmp_path / f"run{number}", "--config_file", "configs/train.json", *given)
    trained = [torch.load(tmp_path / f"run{number}" / "checkpoint.pt", weights_only=True) for number in (0, 1)]
    for checkpoint in trained:
        torch.testing.assert_close(checkpoint["denoiser"]["f.1.weight"], f)  # hardly any learning
    torch.testing.assert_close(trained[1]["g"]["1.weight"], g)
    assert not torch.allclose(trained[0]["g"]["1.weight"], f)  # G is never a copy of F


def test_algorithm_1_trains_the_residual_generator_in_the_whole_range(data: Path, tmp_path: Path) -> None:
    options = ("--config_file", "configs/train.json", "--profile", "full", "--learning_rate", "0.001")
    train(data, 2, tmp_path, *options)
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for weights in (
        trained["denoiser"]["f.tail.weight"],
        trained["denoiser"]["h.0.weight"],
        trained["g"]["tail.weight"],
    ):
        assert torch.isfinite(weights).all()
        assert (weights != 0).any()  # the last layer of F and G begins as zero
    model = ISCLDenoiser("full")
    model.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))


def test_mistake_ends_the_run_with_one_line() -> None:
    done = monai_bundle("run", "training", "--config_file", "configs/train.json", "--max_iteration", "3")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: --max_iteration is no argument of this bundle; did you mean --max_iterations?"
    )


def test_training_that_explodes_ends_with_one_line(data: Path, tmp_path: Path) -> None:
    done = monai_bundle(
        *("run", "training", "--config_file", "configs/train.json", "--learning_rate", "1e30", "--batch_size", "2"),
        *("--clean_dir", str(data / "clean"), "--noisy_dir", str(data / "noisy"), "--output_dir", str(tmp_path)),
        *("--max_iterations", "3", "--checkpoint_iterations", "1"),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: iteration 1: loss term "), done.stderr[-3000:]
    assert last.endswith("is nan; nothing was saved yet; check the images, or try a lower --learning_rate")
    assert not list(tmp_path.glob("*.pt"))


def test_inference_denoises_every_slice(data: Path, trained: Path, tmp_path: Path) -> None:
    done = monai_bundle(
        *("run", "--config_file", "configs/inference.json", "--profile", "abdomen"),
        *("--dataset_dir", str(data / "volumes"), "--output_dir", str(tmp_path)),
        *("--checkpoint", str(trained / "model.pt")),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    given, denoised = (nibabel.load(path) for path in (data / "volumes/case.nii.gz", tmp_path / "case_denoised.nii.gz"))
    np.testing.assert_allclose(denoised.affine, given.affine)
    slices = torch.from_numpy(np.moveaxis(given.get_fdata(dtype=np.float32), 2, 0))[:, None]
    network = ISCLDenoiser().eval()
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    with torch.no_grad():
        expected = torch.cat([network(image[None]) for image in slices])[:, 0]
    result = np.moveaxis(denoised.get_fdata(dtype=np.float32), 2, 0)
    np.testing.assert_allclose(result, expected.numpy(), rtol=0, atol=1e-2)
