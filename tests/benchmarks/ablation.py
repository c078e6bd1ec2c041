"""Table I of the paper in a short run: ``python tests/benchmarks/ablation.py DATA OUT [ITERATIONS]``.

``DATA`` is what ``training_data.py`` made. Each row of the table is trained from the same weights, a warm start of F, G
and H on clean patches with simulated noise, on the same batches, and measured on the six slices of a held-out patient
at a quarter dose (one draw of the noise). From random weights the full model needs more iterations than a short run
has. Prints a Markdown table; ``OUT`` keeps weights and measures; a second call goes on with an interrupted one.
"""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
PAIRS = "A056642/seed101"
ROWS = {
    "A": "a",
    "A+B": "ab",
    "A+B+C": "abc",
    "A+B+C+D": "abcd",
    "A+B+C+D+E": "",
}
BATCH_SIZE = 4
WARM_START = ("--max_iterations", "2000")


def bundle_run(configs: list[str], *arguments: str) -> None:
    """One ``python -m monai.bundle run`` from the bundle's folder."""
    files = ",".join(f"'configs/{name}.json'" for name in configs)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"[{files}]", *arguments]
    subprocess.run(command, cwd=BUNDLE, check=True)


def warm_start(data: Path, out: Path) -> tuple[str, ...]:
    """Arguments that begin a training with taught F, G and H."""
    arguments: tuple[str, ...] = ("--running_statistics", "True", "--freeze_statistics", "True")
    for part in ("f", "g", "h"):
        folder = out / part
        bundle_run(
            ["warm_start"],
            *("--part", part, "--clean_dir", str(data / "clean"), "--output_dir", str(folder)),
            *("--noise_dir", str(out / "noise"), *WARM_START),
        )
        arguments += (f"--initial_{part}", str(folder / "model.pt"))
    return arguments


def train_and_measure(
    overlay: str, data: Path, out: Path, iterations: int, start: tuple[str, ...]
) -> list[dict[str, str]]:
    """The measures of one row of the table, slice by slice."""
    folder = out / (overlay or "full")
    bundle_run(
        ["train", f"ablation/{overlay}"] if overlay else ["train"],
        *("--clean_dir", str(data / "clean"), "--noisy_dir", str(data / "noisy"), "--output_dir", str(folder)),
        *("--max_iterations", str(iterations), "--batch_size", str(BATCH_SIZE)),
        *("--images_per_batch", str(BATCH_SIZE), "--min_inside", "0.25"),
        *("--image_interval", str(iterations + 1), *start),
    )
    bundle_run(
        ["evaluate"],
        *("--clean_dir", str(data / "val_clean" / PAIRS), "--noisy_dir", str(data / "val_noisy" / PAIRS)),
        *("--checkpoint", str(folder / "model.pt"), "--output_dir", str(folder), "--figures", "0"),
    )
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def mean(rows: list[dict[str, str]], form: str, metric: str) -> float:
    """Mean over the slices of one form."""
    return float(np.mean([float(row[metric]) for row in rows if row["form"] == form]))


def main(data: Path, out: Path, iterations: int = 400) -> None:
    """Train every row, print the table."""
    start = warm_start(data, out)
    rows = {name: train_and_measure(overlay, data, out, iterations, start) for name, overlay in ROWS.items()}
    print(f"\n{iterations} iterations, {BATCH_SIZE} patches per domain in a batch\n")
    print("| | F, dB | F, SSIM | x - H, dB | x - H, SSIM | result, dB | result, SSIM |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        forms = ["F", "x - H", "F" if name == "A" else "ensemble"]  # without H the result is F(x)
        figures = [
            f"{mean(row, form, metric):{style}}"
            for form in forms
            for metric, style in (("psnr_db", ".2f"), ("ssim", ".3f"))
        ]
        print(f"| {name} | {' | '.join(figures)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), *map(int, sys.argv[3:]))
