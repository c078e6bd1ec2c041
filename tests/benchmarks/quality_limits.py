"""What the judge measures on good and on ruined results: ``python tests/benchmarks/quality_limits.py DATA OUT``.

``DATA`` holds ``chest_abdomen/<patient>/*.dcm`` and ``head_gantry_tilt/NN.dcm``. The shipped bundle denoises every
slice as it is, and every slice of chest and abdomen and three of the head also at a simulated dose of 10, 25 or 50 %.
Every fifth of these good results is then ruined in every way of ``RUINS``. Prints the tables of docs/quality.md. OUT
keeps what the model found, the longest part (seconds per slice); a second call goes on with an interrupted one, and
with ``--kept`` only the slices that are in ``OUT`` are measured. ``--profile`` names the weights, the node's by
default; each profile needs an ``OUT`` of its own.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from scipy import ndimage
from training_data import low_dose

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.denoiser import Denoiser, blend, removable_noise
from iscl_node.dicom.judging.noise_level import noise_correlation, noise_level_hu
from iscl_node.dicom.judging.slices import ImplausibleResultError, judge, measure
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.settings import INSTALLED_BUNDLE, QualitySettings
from iscl_node.settings.rules import RuleSettings

Image = npt.NDArray[np.float32]

DOSES = (0.1, 0.25, 0.5)
SEED = 1
STRIDE = 6
"""There are six slices of each patient."""
PERCENTILES = (0, 5, 50, 95, 100)
RUINED_EVERY = 5
LIMITS = QualitySettings().limits()


@dataclass(frozen=True)
class Job:
    """One slice to denoise."""

    source: Path
    dose: float

    @property
    def name(self) -> str:
        """Names its file in ``OUT``."""
        return f"{self.source.parent.name}_{self.source.stem}_{round(100 * self.dose)}"


def jobs(data: Path) -> Iterator[Job]:
    """A slice of each patient, then the next of each, so that an interrupted run has seen the most different ones."""
    chest = sorted((data / "chest_abdomen").glob("*/*.dcm"))
    head = sorted((data / "head_gantry_tilt").glob("*.dcm"))
    for first in range(STRIDE):
        for number, source in enumerate(chest[first::STRIDE]):
            yield Job(source, 1)
            yield Job(source, DOSES[(first + number) % len(DOSES)])
        for source in head[first::STRIDE]:
            yield Job(source, 1)
        if first < len(DOSES):
            yield Job(head[first * STRIDE], DOSES[first])


def denoised(job: Job, denoiser: Denoiser, out: Path) -> tuple[Image, Image]:
    """The slice and the noise that the model finds in it, from ``OUT`` if they are there."""
    path = out / f"{job.name}.npz"
    if not path.exists():
        dataset = pydicom.dcmread(job.source)
        source_hu = to_hu(dataset if job.dose == 1 else low_dose(dataset, job.dose, SEED))
        np.savez(path, source=source_hu, noise=removable_noise(denoiser, source_hu))
    with np.load(path) as kept:
        return kept["source"], kept["noise"]


def changed_region(image: Image, change: Callable[[Image], Image], radius: float = 8) -> Image:
    """Change a disc in the middle of the soft tissue."""
    smooth = ndimage.gaussian_filter(image, 3)
    places = np.argwhere((smooth > 0) & (smooth < 100))
    row, column = places[len(places) // 2] if len(places) else (image.shape[0] // 2, image.shape[1] // 2)
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    return np.where(np.hypot(y - row, x - column) <= radius, change(image), image)


def striped(image: Image, amplitude: float) -> Image:
    """Rows brighter and darker in turns, 16 pixels each."""
    rows = np.arange(image.shape[0]) // 16 % 2 * 2 - 1
    return image + (amplitude * rows[:, None]).astype(np.float32)


RUINS: dict[str, Callable[[Image, Image], Image]] = {
    "10 HU higher": lambda _source, good: good + np.float32(10),
    "10 HU lower": lambda _source, good: good - np.float32(10),
    "Gaussian of 0.7 pixels": lambda source, _good: ndimage.gaussian_filter(source, 0.7),
    "Gaussian of 1 pixel": lambda source, _good: ndimage.gaussian_filter(source, 1),
    "Gaussian of 2 pixels": lambda source, _good: ndimage.gaussian_filter(source, 2),
    "median of 5 x 5": lambda source, _good: ndimage.median_filter(source, 5),
    "disc of 16 pixels, 40 HU added": lambda _source, good: changed_region(good, lambda image: image + 40),
    "disc of 16 pixels, 40 HU taken": lambda _source, good: changed_region(good, lambda image: image - 40),
    "disc of 16 pixels, air": lambda _source, good: changed_region(good, lambda image: np.full_like(image, -1000)),
    "stripes of 25 HU": lambda _source, good: striped(good, 25),
    "upside down": lambda _source, good: good[::-1].copy(),
    "inverted": lambda _source, good: -good,
    "constant": lambda _source, good: np.full_like(good, 40),
}


def measures(source: Image, derived: Image) -> dict[str, float]:
    """What the limits are held against, by the name of the limit."""
    quality = measure(source, derived)
    before = quality.noise_before_hu
    return {
        "drift, HU": max((abs(drift) for drift in quality.hu_drift.values()), default=np.nan),
        "shift, HU": quality.local_shift_hu,
        "shift / limit": quality.local_shift_hu
        / (LIMITS.max_local_shift_hu + LIMITS.max_local_shift_per_noise * before),
        "structure removed": np.nan if quality.structure_removed is None else quality.structure_removed,
        "noise removed": quality.noise_removed_hu / before,
        "noise left": quality.noise_after_hu / before,
    }


def is_caught(source: Image, derived: Image) -> bool:
    """Whether the judge turns it down."""
    try:
        judge(source, derived, LIMITS)
    except ImplausibleResultError:
        return True
    return False


def table(name: str, rows: dict[str, list[float]]) -> None:
    """Print the percentiles of each row."""
    print(f"| {name} | slices |" + "".join(f" {each} % |" for each in PERCENTILES))
    print("|---|--:|" + "--:|" * len(PERCENTILES))
    for label, values in rows.items():
        known = [value for value in values if np.isfinite(value)]
        print(f"| {label} | {len(known)} |" + "".join(f" {each:.2f} |" for each in np.percentile(known, PERCENTILES)))


def main(data: Path, out: Path, profile: str, only_kept: bool) -> None:
    """Denoise, ruin, measure."""
    out.mkdir(parents=True, exist_ok=True)
    denoiser = load_bundle(INSTALLED_BUNDLE, profile, "auto")
    good, ruined, caught = defaultdict(list), defaultdict(list), defaultdict(list)
    wanted = [job for job in jobs(data) if not only_kept or (out / f"{job.name}.npz").exists()]
    for number, job in enumerate(wanted):
        source, noise = denoised(job, denoiser, out)
        derived = blend(source, noise, 1.0)
        found = measures(source, derived) | {
            "noise of the source, HU": noise_level_hu(source) or np.nan,
            "noise correlation": noise_correlation(source) or np.nan,
        }
        for name, value in found.items():
            good[name].append(value)
        caught["good"].append(is_caught(source, derived))
        if number % RUINED_EVERY:
            continue
        for name, ruin in RUINS.items():
            caught[name].append(is_caught(source, ruin(source, derived)))
            ruined[name].append(measures(source, ruin(source, derived)))
    table("good results", good)
    print("\n| result | caught |" + "".join(f" {name} |" for name in next(iter(ruined.values()))[0]))
    print("|---|--:|" + "--:|" * len(next(iter(ruined.values()))[0]))
    print(f"| good | {sum(caught['good'])} of {len(caught['good'])} |" + " |" * len(next(iter(ruined.values()))[0]))
    for name, found in ruined.items():
        cells = (
            f" {np.nanmin(each):.2f} to {np.nanmax(each):.2f} |"
            for each in np.array([[*row.values()] for row in found]).T
        )
        print(f"| {name} | {sum(caught[name])} of {len(caught[name])} |" + "".join(cells))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--profile", default=RuleSettings.model_fields["profile"].default)
    parser.add_argument("--kept", action="store_true")
    given = parser.parse_args()
    main(given.data, given.out, given.profile, given.kept)
