"""The figures of an evaluation, PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .image_quality import Image, psnr, ssim

NOTICE = "Research only, not for diagnosis"
ERROR_PART = 0.25
"""The scale of the errors ends at this part of the window."""
MARGIN_PIXELS = 8

Curve = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """A figure of so many inches, with the notice that each must carry."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}. {NOTICE}." if title else f"{NOTICE}.", fontsize="medium")
    return figure


def draw_strip(path: Path, forms: Mapping[str, Image], normal: Image, window: Sequence[float], title: str) -> None:
    """Draw all forms and the normal dose in the window, and below them their absolute errors on one scale.

    Parameters
    ----------
    path : Path
        The PNG file.
    forms : mapping of str to ndarray
        Name to image, (H, W) HU.
    normal : ndarray
        (H, W), HU.
    window : (float, float)
        Ends of the window, HU.
    title : str
        Above all.
    """
    part = body(normal, window[0])
    height, width = normal[part].shape
    columns = len(forms) + 1
    figure = new_figure(3 * columns, 6 * height / width + 1, title)
    axes = figure.subplots(2, columns)
    scale = ERROR_PART * (window[1] - window[0])
    for (above, below), (name, image) in zip(axes.T, forms.items(), strict=False):
        quality = f"{psnr(image, normal, window):.2f} dB, {ssim(image, normal, window):.4f}"
        _show(above, image[part], f"{name}\n{quality}", "gray", window)
        error = abs(np.clip(image, *window) - np.clip(normal, *window))[part]
        shown = _show(below, error, "", "inferno", (0, scale))
    _show(axes[0, -1], normal[part], "normal dose\nPSNR, SSIM", "gray", window)
    axes[1, -1].set_axis_off()
    scale_bar = axes[1, -1].inset_axes((0.0, 0.05, 0.08, 0.9))
    figure.colorbar(shown, cax=scale_bar, label="absolute error in the window, HU", extend="max")
    figure.savefig(path, dpi=110)


def body(image: Image, low: float) -> tuple[slice, slice]:
    """The rectangle around all that is brighter than ``low``, with a margin; everything if nothing is."""
    places = np.argwhere(image > low)
    if not len(places):
        return slice(None), slice(None)
    first, last = np.maximum(places.min(axis=0) - MARGIN_PIXELS, 0), places.max(axis=0) + MARGIN_PIXELS + 1
    return slice(first[0], last[0]), slice(first[1], last[1])


def draw_gamma(
    path: Path, gammas: Sequence[float], psnr_db: npt.NDArray[np.floating], similarity: npt.NDArray[np.floating]
) -> None:
    """Draw mean PSNR and SSIM over gamma."""
    figure = new_figure(6, 4, "Equation (13)")
    left = figure.subplots()
    right = left.twinx()
    lines = left.plot(gammas, psnr_db, "o-", color="C0", label="PSNR")
    lines += right.plot(gammas, similarity, "s--", color="C1", label="SSIM")
    left.set(xlabel="gamma: x - H at 0, F at 1", ylabel="PSNR, dB")
    right.set_ylabel("SSIM")
    left.legend(handles=lines)
    figure.savefig(path, dpi=110)


def draw_curves(path: Path, curves: Mapping[str, Curve], title: str, xlabel: str, ylabel: str) -> None:
    """Draw one line for each form over frequency."""
    figure = new_figure(7, 4.5, title)
    axes = figure.subplots()
    for name, (x, y) in curves.items():
        axes.plot(x, y, label=name, linestyle="--" if name == "normal dose" else "-")
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


def _show(axes: Axes, image: Image, title: str, colors: str, limits: Sequence[float]) -> object:
    axes.set_title(title, fontsize="medium")
    axes.set_axis_off()
    return axes.imshow(image, cmap=colors, vmin=limits[0], vmax=limits[1], interpolation="nearest")
