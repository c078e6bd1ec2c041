"""Make the training data of the shipped weights from real CT: ``python tests/benchmarks/training_data.py DATA OUT``.

``DATA`` holds ``chest_abdomen/<patient>/*.dcm`` and ``head_gantry_tilt/NN.dcm``. ``OUT`` gets ``clean``, ``noisy``,
``val_clean`` and ``val_noisy``. A patient is in one of three: clean, noisy (at several simulated doses), or held out
(pairs of normal and quarter dose, three draws of the noise). Training slices come also with pixels of twice the size.
Files that exist are kept, so the command can be repeated.
"""

import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom

from iscl_node.dicom.copies.simulated import Simulation, simulated
from iscl_node.simulation.low_dose import Scanner, line_integrals
from iscl_node.simulation.series import Slice, low_dose_slice

CLEAN_PATIENTS = ("A027284", "A048383")
NOISY_PATIENTS = ("A002304", "A046441")
HELD_OUT_PATIENTS = ("A056642", "A062055")
NOISY_AS_THEY_ARE = {"A002304/axial_19010112-135", "A046441/axial_19010101-23"}
DOSES = (0.1, 0.25, 0.5)
HELD_OUT_DOSE = 0.25
HELD_OUT_SEEDS = (101, 102, 103)
LARGEST_LINE_INTEGRAL = 7.0
"""A reformat is projected as if it were axial; along the body no scanner would still count photons."""


@dataclass(frozen=True)
class Job:
    """One file to make: a copy (``dose`` 1) or a simulated low-dose slice."""

    source: Path
    target: Path
    dose: float
    seed: int
    binned: bool


def jobs(data: Path, out: Path) -> Iterator[Job]:
    """Everything that has to be made."""
    for source in sorted((data / "chest_abdomen").glob("*/*.dcm")):
        patient = source.parent.name
        if patient in HELD_OUT_PATIENTS:
            yield from held_out(source, out, patient)
        elif f"{patient}/{source.stem}" in NOISY_AS_THEY_ARE:
            yield Job(source, out / "noisy" / patient / "original" / source.name, 1, 0, binned=False)
        else:
            yield from training(source, out, patient, patient in CLEAN_PATIENTS)
    for source in sorted((data / "head_gantry_tilt").glob("*.dcm")):
        yield from training(source, out, "head", is_clean=True)


def held_out(source: Path, out: Path, patient: str) -> Iterator[Job]:
    """Pairs that no training sees: the files of a pair have the same path below their folders."""
    for seed in HELD_OUT_SEEDS:
        name = f"{patient}/seed{seed}/{source.name}"
        yield Job(source, out / "val_clean" / name, 1, 0, binned=False)
        yield Job(source, out / "val_noisy" / name, HELD_OUT_DOSE, seed, binned=False)


def training(source: Path, out: Path, patient: str, is_clean: bool) -> Iterator[Job]:
    """A slice for one of the two domains."""
    for binned in (False, True):
        size = "binned" if binned else "original"
        if is_clean:
            yield Job(source, out / "clean" / patient / size / source.name, 1, 0, binned)
            continue
        for seed, dose in enumerate(DOSES, start=1):
            folder = out / "noisy" / patient / f"{size}_dose{round(100 * dose):02d}"
            yield Job(source, folder / source.name, dose, seed, binned)


def make(job: Job) -> None:
    """Write one file."""
    if job.target.exists():
        return
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if job.dose == 1 and not job.binned:
        shutil.copyfile(job.source, job.target)
        return
    dataset = pydicom.dcmread(job.source)
    if job.binned:
        halve(dataset)
    if job.dose < 1:
        dataset = low_dose(dataset, job.dose, job.seed)
    dataset.save_as(job.target, enforce_file_format=True)


def halve(dataset: pydicom.Dataset) -> None:
    """Average blocks of 2x2 pixels."""
    stored = dataset.pixel_array
    rows, columns = stored.shape[0] // 2, stored.shape[1] // 2
    blocks = stored[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    dataset.PixelData = np.rint(blocks.mean((1, 3))).astype(stored.dtype).tobytes()
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PixelSpacing = [2 * float(spacing) for spacing in dataset.PixelSpacing]


def low_dose(dataset: pydicom.Dataset, dose: float, seed: int) -> pydicom.Dataset:
    """The slice with the noise of a lower dose."""
    spacing_mm = float(dataset.PixelSpacing[0])
    hu = dataset.pixel_array.astype(np.float32) * np.float32(dataset.RescaleSlope) + np.float32(
        dataset.RescaleIntercept
    )
    scanner = Scanner()
    if dataset.ImageType[2] != "AXIAL":
        longest = float(np.percentile(line_integrals(hu, spacing_mm, scanner), 99))
        # A thinner body of the same image: noise in HU grows as the attenuation falls, so the photons rise with it.
        ratio = max(1.0, longest / LARGEST_LINE_INTEGRAL)
        scanner = replace(
            scanner,
            incident_photons=scanner.incident_photons * ratio**2,
            water_attenuation=scanner.water_attenuation / ratio,
        )
    low = low_dose_slice(Slice(str(dataset.SOPInstanceUID), hu, spacing_mm), dose, seed, scanner)
    return simulated(dataset, low, Simulation(dose, seed, scanner.description), datetime.now())


def main(data: Path, out: Path) -> None:
    """Make everything on all processors."""
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(make, jobs(data, out)):
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
