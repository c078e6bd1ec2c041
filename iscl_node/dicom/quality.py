"""Is the processed slice plausible? If not, nothing of the series is sent."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from iscl_node.dicom.volume import Mask, Slice
from iscl_node.errors import QuarantineSeriesError

BODY_HU: Final = (-160.0, 240.0)
"""Fat to enhanced soft tissue: where denoising must not move the mean."""
MIN_BODY_PIXELS: Final = 1000
"""With fewer the mean of the noise itself is not near zero: at 100 HU of noise its standard error is 3 HU."""
MIN_BODY_KEPT: Final = 0.5
"""A result with less than this part of the source's body has lost it. Noise makes the source's count fuzzy."""


@dataclass(frozen=True)
class SliceQuality:
    """What processing did to a slice.

    ``hu_drift`` is the mean change within the body and ``removed_noise_hu`` the standard deviation of the change there,
    both in HU, both None when the slice has too little body.
    """

    body_pixels: int
    hu_drift: float | None
    removed_noise_hu: float | None


def judge(source_hu: Slice, derived_hu: Slice, max_hu_drift: float) -> SliceQuality:
    """Compare a processed slice with its source.

    The body is where the *derived* value is soft tissue. Noise in the source does not depend on the derived value, so
    there it averages to zero; a body chosen by the noisy source would pull in neighbours and show a drift that is none.

    Parameters
    ----------
    source_hu, derived_hu : float32 array, shape (H, W)
        Hounsfield units before and after.
    max_hu_drift : float
        The largest mean change in HU within the body that is let pass, in either direction.

    Returns
    -------
    SliceQuality
        The facts, when the slice passes.

    Raises
    ------
    QuarantineSeriesError
        When a value is not finite, the body is gone, or its mean has drifted too far.
    """
    if derived_hu.shape != source_hu.shape or not np.isfinite(derived_hu).all():
        raise QuarantineSeriesError("the processed image has another shape or values that are not finite")
    body = _body(derived_hu)
    _check_body_kept(int(_body(source_hu).sum()), int(body.sum()))
    quality = _measure(source_hu, derived_hu, body)
    if quality.hu_drift is not None and abs(quality.hu_drift) > max_hu_drift:
        raise QuarantineSeriesError(
            f"the mean of soft tissue moved by {quality.hu_drift:+.2f} HU, more than {max_hu_drift:g} HU"
        )
    return quality


def _body(hu: Slice) -> Mask:
    return (hu >= BODY_HU[0]) & (hu <= BODY_HU[1])


def _check_body_kept(source_pixels: int, derived_pixels: int) -> None:
    if source_pixels >= MIN_BODY_PIXELS and derived_pixels < MIN_BODY_KEPT * source_pixels:
        raise QuarantineSeriesError(f"of {source_pixels} pixels of soft tissue only {derived_pixels} are left")


def _measure(source_hu: Slice, derived_hu: Slice, body: Mask) -> SliceQuality:
    count = int(body.sum())
    if count < MIN_BODY_PIXELS:
        return SliceQuality(body_pixels=count, hu_drift=None, removed_noise_hu=None)
    change: npt.NDArray[np.float64] = derived_hu[body].astype(np.float64) - source_hu[body]
    return SliceQuality(body_pixels=count, hu_drift=float(change.mean()), removed_noise_hu=float(change.std()))
