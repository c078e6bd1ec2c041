"""The whole recipe within a time, on whatever there is: ``python tests/benchmarks/train_gpu.py DATA OUT --minutes 10``.

``DATA`` holds ``clean`` and ``noisy``, folders of images of different patients, as the bundle's training takes them.
Of the minutes 60 % teach F and 15 % teach H (the warm start), the rest is Algorithm 1. ``OUT`` gets ``warm_start.pt``
and ``model.pt``, the denoiser before and after Algorithm 1; the folders of the three parts hold weights and a
checkpoint, written every minute. Making the noise of the clean images comes before and is not counted; a second call
uses it again.

``--pack FILE`` writes an archive instead, at most 64 MiB, that holds the bundle's code, this script, and the images as
16-bit NIfTI, for a machine elsewhere: unpack it, install what ``requirements.txt`` lists, run it on ``data``.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve()
LARGEST_ARCHIVE = 64 * 2**20
SHARES = {"f": 0.6, "h": 0.15}
TIMED_ITERATIONS = 6
FINISHED = re.compile(r"Epoch\[1\] Complete\. Time taken: (\d+):(\d+):([\d.]+)")


def bundle_folder() -> Path:
    """Where the bundle is: in the repository, or beside this script in an unpacked archive."""
    beside = HERE.parent / "monai_bundle"
    return beside if beside.is_dir() else HERE.parents[2] / "monai_bundle"


def bundle_run(config: str, **arguments: object) -> str:
    """One ``python -m monai.bundle run``; what it logged."""
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", f"configs/{config}.json"]
    command += [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, cwd=bundle_folder(), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def warm_start(options: argparse.Namespace) -> dict[str, Path]:
    """Teach F and H; their weights."""
    weights = {}
    for part, share in SHARES.items():
        folder = options.out / part
        bundle_run(
            "warm_start",
            part=part,
            profile=options.profile,
            clean_dir=options.data / "clean",
            noise_dir=options.out / "noise",
            output_dir=folder,
            minutes=share * options.minutes,
            clock="wall",
            batch_size=options.batch_size,
            fields_per_slice=options.fields,
            noise_workers=os.cpu_count(),
        )
        weights[part] = folder / "model.pt"
    whole = {f"{part}.{key}": value for part, path in weights.items() for key, value in load(path).items()}
    torch.save(whole, options.out / "warm_start.pt")
    return weights


def load(path: Path) -> dict[str, torch.Tensor]:
    """A plain state dict."""
    weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def algorithm_1(options: argparse.Namespace, weights: dict[str, Path]) -> None:
    """Algorithm 1 for the rest of the time, after a few iterations that tell how long one takes."""
    fixed = {
        "profile": options.profile,
        "clean_dir": options.data / "clean",
        "noisy_dir": options.data / "noisy",
        "initial_f": weights["f"],
        "initial_h": weights["h"],
        "running_statistics": True,
        "freeze_statistics": True,
        "batch_size": options.batch_size,
        "images_per_batch": options.images,
        "min_inside": 0.25,
        "learning_rate": 1e-5,
        "adversarial_weight": 0.05,
        "amp": "bf16",
        "checkpoint_seconds": 60,
    }
    with tempfile.TemporaryDirectory() as folder:
        log = bundle_run("train", **fixed, output_dir=folder, max_iterations=TIMED_ITERATIONS, resume=False)
    iterations = max(round((1 - sum(SHARES.values())) * 60 * options.minutes / seconds_each(log)), 2)
    folder = options.out / "algorithm_1"
    bundle_run("train", **fixed, output_dir=folder, max_iterations=iterations, discriminators_alone=iterations // 5)
    shutil.copy(folder / "model.pt", options.out / "model.pt")


def seconds_each(log: str) -> float:
    """Of an iteration, from the log of a short run."""
    found = FINISHED.search(log)
    if found is None:
        raise ValueError("the log does not tell how long the iterations took")
    hours, minutes, seconds = map(float, found.groups())
    return max((3600 * hours + 60 * minutes + seconds) / TIMED_ITERATIONS, 1e-3)


def pack(data: Path, archive: Path) -> None:
    """Write the archive for a machine elsewhere.

    Raises
    ------
    ValueError
        If it is too large.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        ignored = shutil.ignore_patterns("__pycache__")
        bundle = root / "monai_bundle"
        for name in ("scripts", "configs", "docs"):
            shutil.copytree(bundle_folder() / name, bundle / name, ignore=ignored)
            if name == "scripts":
                (bundle / "models").mkdir()
        shutil.copy(HERE, root / HERE.name)
        packages = json.loads((bundle / "configs" / "metadata.json").read_text())["required_packages_version"]
        lines = ["monai", "torch", *(f"{name}=={version}" for name, version in packages.items())]
        (root / "requirements.txt").write_text("\n".join(lines) + "\n")
        for kind in ("clean", "noisy"):
            convert(data / kind, root / "data" / kind)
        with tarfile.open(archive, "w:gz") as file:
            for path in sorted(root.iterdir()):
                file.add(path, path.name)
    if archive.stat().st_size > LARGEST_ARCHIVE:
        archive.unlink()
        raise ValueError(f"the archive would be larger than {LARGEST_ARCHIVE >> 20} MiB: take fewer images")


def convert(source: Path, target: Path) -> None:
    """Every image of a folder as a NIfTI file of 16 bits, named by its patient."""
    import nibabel
    import numpy as np

    sys.path.insert(0, str(bundle_folder()))
    from scripts.data.images import find_slices, read_slice

    target.mkdir(parents=True)
    for number, each in enumerate(find_slices(source)):
        rows, columns = (1.0 if np.isnan(spacing) else spacing for spacing in each.spacing_mm)
        image = np.rint(read_slice(each)).astype(np.int16)[:, :, None]
        patient = re.sub(r"[^A-Za-z0-9-]", "-", each.patient) or f"unknown{number}"
        nibabel.save(nibabel.Nifti1Image(image, np.diag([rows, columns, 1, 1])), target / f"{patient}_{number}.nii.gz")


def main(argv: list[str] | None = None) -> None:
    """Train, or pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=lambda text: Path(text).resolve())
    parser.add_argument("out", type=lambda text: Path(text).resolve(), nargs="?", default=Path("out").resolve())
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=64, help="the paper's")
    parser.add_argument("--images", type=int, default=16, help="of each domain in a batch of Algorithm 1")
    parser.add_argument("--fields", type=int, default=8, help="of noise for each clean image")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--pack", type=Path, help="write this archive instead")
    options = parser.parse_args(argv)
    if options.pack:
        pack(options.data, options.pack)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    algorithm_1(options, warm_start(options))
    print(f"{options.out / 'warm_start.pt'}: before Algorithm 1\n{options.out / 'model.pt'}: after it")


if __name__ == "__main__":
    main()
