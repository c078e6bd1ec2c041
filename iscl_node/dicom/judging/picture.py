"""What the judge saw: source, result and difference of a slice, side by side, for the person who decides."""

from io import BytesIO
from typing import Any, Final

import numpy as np

from iscl_node.dicom.reading.volume import Slice

WINDOW_HU: Final = (-160.0, 240.0)
"""Soft tissue, as it is mostly looked at."""


def picture(source_hu: Slice, derived_hu: Slice, reason: str) -> bytes:
    """Draw a PNG: source | result | difference, above them the reason; nothing of the patient but the image.

    Parameters
    ----------
    source_hu, derived_hu : float32 array, shape (H, W)
        Hounsfield units; shapes may differ and values need not be finite.
    reason : str
        The judge's words, with the figures.

    Returns
    -------
    bytes
        The PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # seldom needed, and a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    for axis, (name, image) in zip(axes[:2], {"Source": source_hu, "Result": derived_hu}.items(), strict=True):
        shown = _show(axis, image, f"{name}, HU", cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
    figure.colorbar(shown, ax=axes[:2], shrink=0.8)
    if source_hu.shape == derived_hu.shape:
        difference = derived_hu - source_hu
        largest = _scale_hu(difference)
        drawn = _show(axes[2], difference, "Result - source, HU", cmap="RdBu_r", vmin=-largest, vmax=largest)
        figure.colorbar(drawn, ax=axes[2], shrink=0.8)
    else:
        axes[2].set_axis_off()
    figure.suptitle(reason, wrap=True, fontsize=10)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def _scale_hu(difference: Slice) -> float:
    """Ends of the colours: where 99.9 percent of the finite differences are, at least 10 HU."""
    finite = np.abs(difference[np.isfinite(difference)])
    return max(10.0, float(np.quantile(finite, 0.999))) if finite.size else 10.0


def _show(axis: Any, image: Slice, name: str, **scale: Any) -> Any:
    axis.set_title(name)
    axis.set_axis_off()
    return axis.imshow(image, interpolation="nearest", **scale)
