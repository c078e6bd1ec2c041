"""How long the fade beyond the window should be: ``python tests/benchmarks/fade.py FOLDER [BUNDLE]``.

Takes every third axial CT slice below ``FOLDER``, simulates a quarter of its dose, removes the noise with fades of
several lengths, and prints how far the result is from the slice itself (RMS, HU) by where the noisy value lies; without
a fade first. The noise that the model finds is printed as a percentile: the fade should be about as long.
"""

import sys
from pathlib import Path

import numpy as np

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.denoiser import blend, removable_noise
from iscl_node.dicom.folder import read_folder
from iscl_node.dicom.simulated import projectable_spacing_mm
from iscl_node.dicom.volume import to_hu
from iscl_node.errors import QuarantineSeriesError
from iscl_node.settings import INSTALLED_BUNDLE
from iscl_node.simulation.low_dose import Scanner
from iscl_node.simulation.series import Slice, low_dose_series

FADES_HU = (1e-3, 20.0, 40.0, 80.0)
DOSE = 0.25
MARGIN_HU = 40


def slices(folder: Path) -> list[Slice]:
    """The slices that can be projected: axial ones."""
    found = []
    for instance in (each for series in read_folder(folder).series.values() for each in series):
        try:
            found.append(Slice(str(instance.SOPInstanceUID), to_hu(instance), projectable_spacing_mm(instance)))
        except QuarantineSeriesError:
            continue
    return found[::3]


def main(folder: Path, bundle: Path) -> None:
    """Print a row for each slice and zone."""
    denoiser = load_bundle(bundle, "abdomen", "cpu")
    low, high = denoiser.window_hu
    print(f"{'zone':24}{'pixels':>8}{'noisy':>8}" + "".join(f"{fade:>8.0f}" for fade in FADES_HU))
    taken = slices(folder)
    for clean, noisy in zip(taken, low_dose_series(taken, DOSE, 0, Scanner(), 1), strict=True):
        noises = {fade: removable_noise(denoiser, noisy, fade) for fade in FADES_HU}
        inside = (noisy >= low) & (noisy <= high)
        limit = np.percentile(np.abs(noises[FADES_HU[0]][inside]), 99.9)
        print(f"99.9 percent of the noise found within {limit:.1f} HU")
        zones = {
            "below the window": (noisy < low) & (noisy > low - MARGIN_HU),
            "its lower end": (noisy >= low) & (noisy < low + MARGIN_HU),
            "the window": inside,
            "its upper end": (noisy <= high) & (noisy > high - MARGIN_HU),
            "above the window": (noisy > high) & (noisy < high + MARGIN_HU),
        }
        for name, zone in zones.items():
            errors = [noisy] + [blend(noisy, noise, 1.0, (low, high), fade) for fade, noise in noises.items()]
            row = "".join(f"{np.sqrt(np.mean((each - clean.hu)[zone] ** 2)):8.2f}" for each in errors)
            print(f"{name:24}{zone.sum():8}{row}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else INSTALLED_BUNDLE)
