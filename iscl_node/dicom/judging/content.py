"""What the pixels say when attributes say nothing: are they Hounsfield units, and is anything to be denoised?

A histogram is the last resort. Each rule holds only for what no CT in Hounsfield units shows, with any field of
view: a cut-out of the head may have no air, an arm no organ, a hip much metal.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy import ndimage

from iscl_node.dicom.judging.series import sample
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.volume import Slice, padding_mask, padding_range, to_hu
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError

AIR_HU: Final = -800.0
"""What is smoothed to less than this is air; lung is denser with its vessels, and no patient is of lung alone."""
LEAST_TISSUE: Final = 1e-3
"""Part of a slice that must be more than air."""

GREY_VALUES: Final = 1023
"""Images of grey values end at 255 or 1023 at most; Hounsfield units go beyond."""
DENSE_HU: Final = 500.0
"""Bone and metal lie above, and everything if the intercept was lost."""
NO_AIR_HU: Final = -200.0
TOO_LOW_HU: Final = -1700.0
"""Below air with any noise; padding is left out."""
LEAST_SPAN_HU: Final = 10.0
OFFSET_HU: Final = -500.0
"""A Rescale Intercept below this was not lost, however dense a cut-out of a tooth or an implant is."""

_LOW_ENDS: Final = 0.01
_HIGH_ENDS: Final = 5e-4
_MOST_DENSE: Final = 0.25
_MOST_LOW: Final = 0.05
_PIXELS_OF_EACH: Final = 50_000
_SMOOTHING_PIXELS: Final = 3.0

Values = npt.NDArray[np.float32]


def check_content(
    instances: Sequence[Dataset], profile: str, window_hu: tuple[float, float] | None = None, joins: bool = False
) -> None:
    """Check that the pixels of a series may be Hounsfield units, and that anything of it can be denoised.

    Parameters
    ----------
    instances : sequence of Dataset
        The slices of a series; their pixels are read, of a sample first.
    profile : str
        Of the model, for the reason.
    window_hu : tuple of two floats, optional
        What the model changes, HU.
    joins : bool
        Whether other slices of the series were processed before: then these go with them, even if they show nothing.

    Raises
    ------
    IgnoreSeriesError
        If nothing would be changed.
    QuarantineSeriesError
        If the values are on another scale, or cannot be read.
    """
    views = [view for instance in instances for view in frames(instance)]
    sampled = sample(views)
    fault = _scale_fault(
        np.concatenate([_thinned(view) for view in sampled]),
        has_offset=any(float(view.RescaleIntercept) < OFFSET_HU for view in sampled),
        has_low_padding=any(map(_has_low_padding, sampled)),
    )
    if fault:
        raise QuarantineSeriesError(f"the values are no Hounsfield units: {fault}")
    if not joins:
        _check_anything(sampled, views, profile, window_hu)


def _check_anything(
    sampled: Sequence[Dataset], views: Sequence[Dataset], profile: str, window_hu: tuple[float, float] | None
) -> None:
    """The sample first: it nearly always has something."""
    if not any(_in_window(view, window_hu) for view in _each(sampled, views)):
        raise IgnoreSeriesError(f"nothing lies in the window of profile {profile}")
    if not any(_is_more_than_air(view) for view in _each(sampled, views)):
        raise IgnoreSeriesError(f"nothing but air lies in the window of profile {profile}")


def _each(sampled: Iterable[Dataset], views: Iterable[Dataset]) -> Iterator[Dataset]:
    yield from sampled
    yield from views


def _in_window(view: Dataset, window_hu: tuple[float, float] | None) -> bool:
    if window_hu is None:
        return True
    hu = to_hu(view)
    return bool(((hu >= window_hu[0]) & (hu <= window_hu[1]) & ~padding_mask(view)).any())


def _is_more_than_air(view: Dataset) -> bool:
    smooth: Slice = ndimage.gaussian_filter(np.where(padding_mask(view), -1000.0, to_hu(view)), _SMOOTHING_PIXELS)
    return float(np.mean(smooth > AIR_HU)) > LEAST_TISSUE


def _thinned(view: Dataset) -> Values:
    """Values of a slice in HU, evenly chosen, without padding."""
    values = to_hu(view)[~padding_mask(view)]
    return values[:: max(1, values.size // _PIXELS_OF_EACH)]


def _has_low_padding(view: Dataset) -> bool:
    """Whether padding far below air is declared: with loss in its compression it is no single value any more."""
    padding = padding_range(view)
    return padding is not None and padding[0] * float(view.RescaleSlope) + float(view.RescaleIntercept) < TOO_LOW_HU


def _scale_fault(values: Values, has_offset: bool, has_low_padding: bool) -> str:
    """What shows that the values are not Hounsfield units; empty if nothing does."""
    if not values.size:
        return ""
    lowest, highest = float(values.min()), float(values.max())
    if 0 <= lowest < highest <= GREY_VALUES and _is_cut_off(values, lowest, highest):
        return f"they go from {lowest:g} to {highest:g} and are cut off at both ends, as grey values of a window"
    if not has_offset and np.percentile(values, 1) > NO_AIR_HU and float(np.mean(values > DENSE_HU)) > _MOST_DENSE:
        return "there is no air near -1000 and no tissue near 0, as with a Rescale Intercept that was lost"
    if not has_low_padding and highest > lowest and float(np.mean(values[values > lowest] < TOO_LOW_HU)) > _MOST_LOW:
        return "many are far below air, which has -1000"
    if 0 < np.percentile(values, 99.9) - np.percentile(values, 0.1) < LEAST_SPAN_HU:
        return f"they span less than {LEAST_SPAN_HU:g}"
    return ""


def _is_cut_off(values: Values, lowest: float, highest: float) -> bool:
    return float(np.mean(values == lowest)) >= _LOW_ENDS and float(np.mean(values == highest)) >= _HIGH_ENDS
