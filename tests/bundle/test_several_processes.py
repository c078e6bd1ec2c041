"""A training in two processes, as torchrun starts it on two GPUs; here with gloo on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import ct_dataset, part10, soft_tissue
from monai.bundle import ConfigWorkflow

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
WORKER = Path(__file__).with_name("one_of_several.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``clean`` and ``noisy`` with one CT slice of another patient each."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("clean", "noisy")):
        (folder / name).mkdir()
        dataset = ct_dataset(soft_tissue(seed=seed, side=80), PatientID=name)
        (folder / name / "1.dcm").write_bytes(part10(dataset))
    return folder


def arguments(data: Path, output: Path, iterations: int) -> dict[str, Any]:
    return {
        "clean_dir": str(data / "clean"),
        "noisy_dir": str(data / "noisy"),
        "output_dir": str(output / "runs"),
        "max_iterations": iterations,
        "checkpoint_iterations": 2,
        "batch_size": 2,
        "log_interval": 1,
        "device": "$torch.device('cpu')",
    }


def train_in_two(data: Path, output: Path, iterations: int) -> list[dict[str, Any]]:
    """What each rank has at the end."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    left = output / str(iterations)
    left.mkdir(parents=True)
    done = subprocess.run(
        [*torchrun, str(WORKER), json.dumps(arguments(data, output, iterations)), str(left)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(BUNDLE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(left / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def train_alone(data: Path, output: Path, iterations: int) -> dict[str, Any]:
    """The same without the overlay."""
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(BUNDLE),
        **arguments(data, output, iterations),
    )
    workflow.initialize()
    workflow.run()
    trainer = workflow.parser.get_parsed_content("train::trainer")
    return {
        "weights": [p.detach() for network in trainer.networks for p in network.parameters()],
        "batch": torch.from_numpy(trainer.data_loader.dataset[0]["noisy"]),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(data: Path, folder: Path) -> list[dict[str, Any]]:
    return train_in_two(data, folder, iterations=2)


def test_weights_are_equal_on_both_ranks(two: list[dict[str, Any]]) -> None:
    for name in ("weights", "slow"):
        torch.testing.assert_close(two[0][name], two[1][name], rtol=0, atol=0)
    assert two[0]["output"] == two[1]["output"]


def test_averages_are_means(two: list[dict[str, Any]]) -> None:
    for rank in two:
        assert [tensor.tolist() for tensor in rank["mean"]] == [0.5, [[7.0], [7.0]]]


def test_ranks_draw_different_patches(two: list[dict[str, Any]]) -> None:
    assert not torch.equal(two[0]["batch"], two[1]["batch"])


def test_gradients_of_both_ranks_count(
    data: Path, two: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 alone draws the same patches and comes to other weights."""
    monkeypatch.syspath_prepend(str(BUNDLE))
    alone = train_alone(data, tmp_path, iterations=2)
    torch.testing.assert_close(alone["batch"], two[0]["batch"], rtol=0, atol=0)
    assert any(not torch.equal(a, b) for a, b in zip(alone["weights"], two[0]["weights"], strict=True))


@pytest.mark.usefixtures("two")
def test_rank_0_alone_writes(folder: Path) -> None:
    files = sorted(path.name.split(".")[0] for path in (folder / "runs").iterdir())
    assert files == ["checkpoint", "events", "model"]


@pytest.mark.usefixtures("two")
def test_both_ranks_resume(data: Path, folder: Path) -> None:
    resumed = train_in_two(data, folder, iterations=3)
    assert [rank["iteration"] for rank in resumed] == [3, 3]
    torch.testing.assert_close(resumed[0]["weights"], resumed[1]["weights"], rtol=0, atol=0)
    checkpoint = torch.load(folder / "runs" / "checkpoint.pt", weights_only=True)
    assert checkpoint["iteration"] == 3
    torch.testing.assert_close(checkpoint["h_optimizer"]["slow"], resumed[1]["slow"], rtol=0, atol=0)
