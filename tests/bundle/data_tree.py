"""The folder ``data`` that the README's commands name, with a few small images."""

from pathlib import Path

import numpy as np
from image_files import write_ct, write_volume


def write_data(folder: Path) -> Path:
    """Write ``clean`` and ``noisy`` of two patients, the pairs ``validation/clean`` and ``/noisy``, and ``volumes``."""
    for seed, kind in enumerate(("clean", "noisy", "validation/clean", "validation/noisy")):
        patient = "pair" if kind.startswith("validation") else kind
        for number in range(2):
            write_ct(folder / kind / patient / f"{number}.dcm", 10 * seed + number, PatientID=patient)
    volume = np.random.default_rng(0).normal(40, 100, (20, 22, 3)).astype(np.float32)
    write_volume(folder / "volumes" / "case.nii.gz", volume)
    return folder
