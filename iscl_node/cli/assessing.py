"""``iscl-node assess``."""

from pathlib import Path
from typing import Annotated

import typer

from iscl_node.cli.terminal import out, reported
from iscl_node.domain.strength import TARGET_NOISE_HU
from iscl_node.settings import INSTALLED_BUNDLE
from iscl_node.settings.rules import strength_choices


def assess(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of DICOM files: a phantom, or patients.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for index.html and CSV files.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the MONAI bundle.")] = INSTALLED_BUNDLE,
    profile: Annotated[str, typer.Option(help="HU window: full, abdomen or chest.")] = "full",
    strength: Annotated[str, typer.Option(help="As for denoise; auto is measured on all slices together.")] = "auto",
    target_noise_hu: Annotated[float, typer.Option(help="Of strength auto, HU.")] = TARGET_NOISE_HU,
    slices: Annotated[int, typer.Option(min=1, help="At most so many of each patient, folder and kernel.")] = 8,
) -> None:
    """Measure noise, sharpness and faint discs before and after denoising, on series of your own."""
    from iscl_node.assessment.methods import Strength, method_of
    from iscl_node.assessment.own_series import assess as measure

    with reported():
        (choice,) = strength_choices([strength], target_noise_hu)
        method = method_of(f"node={bundle}:{profile}")
        count = measure(source, target, method, Strength(strength, choice), slices)
    out.print(f"{count} slices measured: {target / 'index.html'}", highlight=False, soft_wrap=True)
