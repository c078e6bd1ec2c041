"""What the window's ends cost: ``python tests/benchmarks/fade.py FOLDER [BUNDLE [PROFILE]]``.

Takes every third axial CT slice below ``FOLDER``, simulates a quarter of its dose, removes the noise (strength 1), and
prints how far the noisy slice and the result are from the slice itself (RMS, HU) by where the slice's value lies, and
the specks: pixels of the body further than 100 HU from their 5 x 5 median, per mille.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.denoiser import blend, removable_noise
from iscl_node.dicom.copies.simulated import projectable_spacing_mm
from iscl_node.dicom.reading.folder import read_folder
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.errors import QuarantineSeriesError
from iscl_node.settings import INSTALLED_BUNDLE
from iscl_node.simulation.low_dose import Scanner
from iscl_node.simulation.series import Slice, low_dose_series

DOSE = 0.25
BODY_HU = -250
SPECK_HU = 100
ZONES_HU = {
    "lung": (-950, -500),
    "fat": (-160, -60),
    "soft tissue": (0, 100),
    "200 to 280": (200, 280),
    "bone": (280, 3000),
}


def slices(folder: Path) -> list[Slice]:
    """The slices that can be projected: axial ones."""
    found = []
    for instance in (each for series in read_folder(folder).series.values() for each in series):
        try:
            found.append(Slice(str(instance.SOPInstanceUID), to_hu(instance), projectable_spacing_mm(instance)))
        except QuarantineSeriesError:
            continue
    return found[::3]


def measures(clean: np.ndarray, image: np.ndarray) -> Iterator[float]:
    """RMS error of each zone, HU, and the specks, per mille."""
    for low, high in ZONES_HU.values():
        zone = (clean >= low) & (clean < high)
        yield float(np.sqrt(np.mean((image - clean)[zone] ** 2))) if zone.any() else np.nan
    body = ndimage.gaussian_filter(clean, 3) > BODY_HU
    yield 1000 * float((np.abs(image - ndimage.median_filter(image, 5)) > SPECK_HU)[body].mean())


def main(folder: Path, bundle: Path, profile: str) -> None:
    """Print two rows for each slice."""
    denoiser = load_bundle(bundle, profile, "cpu")
    print(f"{'':8}" + "".join(f"{zone:>14}" for zone in (*ZONES_HU, "specks")))
    taken = slices(folder)
    for clean, noisy in zip(taken, low_dose_series(taken, DOSE, 0, Scanner(), 1), strict=True):
        for name, image in (("noisy", noisy), ("result", blend(noisy, removable_noise(denoiser, noisy), 1.0))):
            print(f"{name:8}" + "".join(f"{each:14.2f}" for each in measures(clean.hu, image)))


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *("", str(INSTALLED_BUNDLE), "abdomen")[len(sys.argv) - 1 :]]
    main(Path(arguments[0]), Path(arguments[1]), arguments[2])
