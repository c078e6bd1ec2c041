"""``python tests/benchmarks/readme_picture.py DATA``: draw the picture of the README, docs/denoised.png.

DATA holds ``tcia/Lung-PET-CT-Dx/Lung_Dx-A0002/kernel_B40f``, a patient of the gate: nothing was trained or tuned on it.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pydicom
from matplotlib.axes import Axes

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.denoiser import Slice, blend, removable_noise
from iscl_node.dicom.judging.body_size import effective_diameter_mm
from iscl_node.dicom.judging.noise_level import noise_level_hu
from iscl_node.domain.strength import AutoStrength, chosen_strength
from iscl_node.simulation.low_dose import low_dose_noise
from monai_bundle.scripts.evaluation.image_quality import psnr

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
PICTURE = Path(__file__).parents[2] / "docs" / "denoised.png"
SERIES = "tcia/Lung-PET-CT-Dx/Lung_Dx-A0002/kernel_B40f"
NUMBER, DOSE = 6, 0.1
WINDOW = (-160.0, 240.0)
ENLARGED = (slice(250, 360), slice(200, 330))


def normal_dose(data: Path) -> tuple[Slice, float, float]:
    """The slice, (H, W) float32 HU, its pixel spacing and thickness, mm."""
    datasets = map(pydicom.dcmread, (data / SERIES).glob("*.dcm"))
    dataset = sorted(datasets, key=lambda each: float(each.ImagePositionPatient[2]))[NUMBER]
    hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return hu.clip(-1024, 3071).astype(np.float32), float(dataset.PixelSpacing[0]), float(dataset.SliceThickness)


def denoised(hu: Slice, spacing_mm: float, slice_mm: float) -> Slice:
    """As the node makes it with its defaults; prints the strength."""
    body_mm = effective_diameter_mm(hu, spacing_mm**2)
    chosen = chosen_strength(AutoStrength(), noise_level_hu(hu), body_mm, slice_mm=slice_mm)
    print(chosen.text)
    return blend(hu, removable_noise(load_bundle(BUNDLE, "full", "cpu"), hu), chosen.value)


def show(axes: Axes, image: Slice, window: tuple[float, float], title: str = "") -> None:
    """Draw one image without axes."""
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1])
    axes.set_title(title, fontsize=15)


def main() -> None:
    """Draw, and print the figures of the caption."""
    normal, spacing_mm, slice_mm = normal_dose(Path(sys.argv[1]))
    low = (normal + low_dose_noise(normal, spacing_mm, DOSE, np.random.default_rng(0))).clip(-1024, 3071)
    result = denoised(low, spacing_mm, slice_mm)
    for name, image in (("low dose", low), ("denoised", result)):
        print(f"{name}: PSNR {psnr(image, normal, WINDOW):.1f} dB, noise {noise_level_hu(image):.1f} HU")
    rows, columns = np.nonzero(normal > -300)
    body = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    figure, axes = plt.subplots(2, 4, figsize=(20, 9))
    for each in axes.ravel():
        each.axis("off")
    for number, (image, title) in enumerate(
        [(normal, "normal dose"), (low, "a tenth of the dose, simulated"), (result, "denoised")]
    ):
        show(axes[0, number], image[body], WINDOW, title)
        show(axes[1, number], image[body], (-1350, 150))
    show(axes[0, 3], (low - result)[body], (-80, 80), "removed, -80 to 80 HU")
    show(axes[1, 3], np.hstack([low[ENLARGED], result[ENLARGED]]), WINDOW, "before and after, enlarged")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=72)


if __name__ == "__main__":
    main()
