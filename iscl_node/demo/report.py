"""The figure: normal dose, low dose, denoised and removed noise of one slice, side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from iscl_node.demo.measure import SOFT_TISSUE_HU, WINDOW_HU

Volume = npt.NDArray[np.float32]
Slice = npt.NDArray[np.float32]

_NOISE_HU = 60.0
"""The colour scale of the removed noise ends here, on both sides."""


def slice_to_show(normal_hu: Volume) -> int:
    """Index of the slice with the most soft tissue; in a head, through the middle of the brain."""
    soft = (normal_hu > SOFT_TISSUE_HU[0]) & (normal_hu < SOFT_TISSUE_HU[1])
    return int(soft.sum(axis=(1, 2)).argmax())


def write_report(path: Path, normal_hu: Slice, low_hu: Slice, denoised_hu: Slice, title: str) -> None:
    """Draw the figure.

    Parameters
    ----------
    path : Path
        The PNG file.
    normal_hu, low_hu, denoised_hu : float32 array, shape (H, W)
        One slice, in Hounsfield units.
    title : str
        Above all of it.
    """
    figure = Figure(figsize=(19, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4)
    images = {"Normal dose": normal_hu, "Low dose (input)": low_hu, "Denoised (output)": denoised_hu}
    for axis, (name, image) in zip(axes, images.items(), strict=False):
        shown = _show(axis, image, name, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
    figure.colorbar(shown, ax=axes[:3], label="HU", shrink=0.8, pad=0.01)
    noise = _show(axes[3], low_hu - denoised_hu, "Removed noise", cmap="RdBu_r", vmin=-_NOISE_HU, vmax=_NOISE_HU)
    figure.colorbar(noise, ax=axes[3], label="low dose - denoised, HU", shrink=0.8)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _show(axis: Any, image: Slice, name: str, **scale: Any) -> Any:
    axis.set_title(name)
    axis.set_axis_off()
    return axis.imshow(image, interpolation="nearest", **scale)
