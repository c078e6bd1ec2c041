"""Measure weights on the pairs that no training saw: ``python tests/benchmarks/held_out.py OUT [MODEL [FIGURE]]``.

``OUT`` is what ``training_data.py`` made. Prints a Markdown table: the input, F alone, x - H alone, their mean as in
equation (13), and that with the noise prior, which is what the node sends. PSNR and SSIM in the window of the
abdomen (data range 400 HU, skimage's definitions), mean over the slices; the shift of the mean HU and the noise
(standard deviation of the difference to the normal dose) in soft tissue, 0 to 80 HU. ``FIGURE`` is a PNG of one of the
head slices.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from iscl_node.demo.report import write_report
from monai_bundle.scripts.data import read_hu
from monai_bundle.scripts.denoiser import ISCLDenoiser

LOW_HU, HIGH_HU = -160.0, 240.0
SHIPPED = Path(__file__).parents[2] / "monai_bundle" / "models" / "model.pt"
Image = npt.NDArray[np.float32]


def forms(denoiser: ISCLDenoiser, plain: ISCLDenoiser, noisy: Image) -> dict[str, Image]:
    """The input and what the parts of the model make of it; HU."""
    image = torch.from_numpy(noisy)[None, None]
    x = denoiser.window.to_unit(image)
    inside = (image >= LOW_HU) & (image <= HIGH_HU)
    f, h = denoiser.window.to_hu(denoiser.f(x)), denoiser.window.to_hu(x - denoiser.h(x))
    results = {
        "input": image,
        "F": torch.where(inside, f, image),
        "x - H": torch.where(inside, h, image),
        "equation (13)": plain(image),
        "with noise prior": denoiser(image),
    }
    return {name: result[0, 0].numpy() for name, result in results.items()}


def quality(image: Image, normal: Image) -> list[float]:
    """PSNR (dB), SSIM, shift of soft tissue (HU), noise in soft tissue (HU)."""
    clipped, reference = np.clip(image, LOW_HU, HIGH_HU), np.clip(normal, LOW_HU, HIGH_HU)
    error = (image - normal)[(normal > 0) & (normal < 80)]
    return [
        peak_signal_noise_ratio(reference, clipped, data_range=HIGH_HU - LOW_HU),
        structural_similarity(reference, clipped, data_range=HIGH_HU - LOW_HU),
        float(error.mean()),
        float(error.std()),
    ]


def pairs(out: Path, group: str) -> Iterator[tuple[Image, Image]]:
    """Low and normal dose of one group of slices."""
    for path in sorted((out / "val_noisy").glob("*.dcm")):
        if path.name.replace("binned_", "").startswith("head") == (group == "head"):
            yield read_hu(path), read_hu(out / "val_clean" / path.name)


def load(model: Path) -> tuple[ISCLDenoiser, ISCLDenoiser]:
    """The denoiser as shipped, and without the noise prior."""
    denoiser, plain = ISCLDenoiser(), ISCLDenoiser(noise_prior=False)
    for network in (denoiser, plain):
        network.load_state_dict(torch.load(model, map_location="cpu", weights_only=True))
        network.eval()
    return denoiser, plain


def table(out: Path, denoiser: ISCLDenoiser, plain: ISCLDenoiser) -> None:
    """Print the figures."""
    print("| slices | form | PSNR, dB | SSIM | shift, HU | noise, HU |\n|---|---|--:|--:|--:|--:|")
    for group in ("body", "head"):
        figures: dict[str, list[list[float]]] = {}
        for noisy, normal in pairs(out, group):
            for name, image in forms(denoiser, plain, noisy).items():
                figures.setdefault(name, []).append(quality(image, normal))
        for name, rows in figures.items():
            psnr, ssim, shift, noise = np.mean(rows, axis=0)
            print(f"| {len(rows)} {group} | {name} | {psnr:.2f} | {ssim:.3f} | {shift:+.2f} | {noise:.1f} |")


def figure(out: Path, denoiser: ISCLDenoiser, path: Path) -> None:
    """Draw one held-out head slice at 5 % of its dose."""
    noisy, normal = (read_hu(out / folder / "head_14.dcm") for folder in ("val_noisy", "val_clean"))
    denoised = denoiser(torch.from_numpy(noisy)[None, None])[0, 0].numpy()
    write_report(
        path, normal, noisy, denoised, "Held-out head slice, 5 % of the dose. Research software, not for diagnosis."
    )


def main(out: Path, model: Path = SHIPPED, picture: Path | None = None) -> None:
    """Print the table, draw the figure."""
    denoiser, plain = load(model)
    with torch.inference_mode():
        table(out, denoiser, plain)
        if picture is not None:
            figure(out, denoiser, picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
