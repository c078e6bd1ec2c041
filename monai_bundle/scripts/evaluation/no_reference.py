"""How good a denoised image is, told from it and the noisy one alone."""

import math

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.regression import RegressionMetric
from scipy import ndimage
from torch import Tensor

Image = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

SMOOTHING_PIXELS = 3.0
STEEPEST_PER_PIXEL = 0.01
EROSION_PIXELS = 3
MARGIN = 0.1
"""What is nearer to an end of the window is not looked at: there the window cuts the noise."""
FEWEST_PIXELS = 200


class EstimatedPSNR(RegressionMetric):
    """PSNR in the window, dB, with :func:`estimated_error` in the place of the root mean squared error.

    Its arguments are the denoised and the noisy images, (N, 1, H, W), the window being [0, 1].
    """

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        pairs = zip(y_pred.numpy(force=True), y.numpy(force=True), strict=True)
        errors = [estimated_error(noisy[0], denoised[0]) for denoised, noisy in pairs]
        return torch.tensor([[-20 * math.log10(max(error, 1e-6))] for error in errors])


def estimated_error(noisy: Image, denoised: Image) -> float:
    r"""Estimate the root mean squared error of a denoised image without a clean one.

    .. math:: \hat e^2 = \sigma_U^2 + \max(0, \overline{r^2}_S - \overline{r^2}_U)

    In uniform regions U all that varies from pixel to pixel is noise: the first term is the noise that is left,
    the variance of the denoised image minus its local mean. Where there is structure, S, the removed image r (noisy
    minus denoised) holds noise and lost structure. Noise is independent of the structure and much the same in
    the whole slice, so what r has there beyond what it has in uniform regions is lost structure. Removing
    nothing leaves the first term large, smoothing too much the second; no trivial result makes both small, as it
    does with the disagreement of F(x) and x - H(x), which vanishes if neither does anything.

    Uniform is where the noisy image, smoothed by a Gaussian of 3 pixels, rises by less than 1 % of the window per
    pixel, at least 3 pixels from elsewhere.

    Limits. It does not see an image that is wrong by a constant, the shift of a whole organ, an added structure that
    is no stronger than the noise that is left, and what the noise prior caps. Where the noise differs much
    within the slice (streaks between the shoulders) the difference counts as lost structure, for all weights
    alike. A texture without uniform regions, as in electron microscopy, gives nothing to measure.

    Measured on simulated low dose with 30 candidates (parts and mixtures of three networks, Gaussian filters): the
    rank correlation with the PSNR is 0.95 and 0.89 on two slices, the correlation with the root mean squared
    error 0.93 and 0.96. On a third it is 0.26, but there the normal-dose image has 35 of the low dose's 40 HU of noise.
    The formula was chosen out of about a dozen on these slices (crops of 300 x 300 pixels), so this is optimistic.

    Parameters
    ----------
    noisy, denoised : ndarray
        (H, W), the window being [0, 1], clipped to it.

    Returns
    -------
    float
        In units of the window; nan if there are fewer than 200 pixels of either region.
    """
    uniform, structured = regions(noisy)
    if not enough(uniform, structured):
        return math.nan
    left = (denoised - ndimage.gaussian_filter(denoised, SMOOTHING_PIXELS))[uniform]
    removed = np.square(noisy - denoised)
    lost = max(0.0, float(removed[structured].mean() - removed[uniform].mean()))
    return math.sqrt(float(left.var()) + lost)


def regions(noisy: Image) -> tuple[Mask, Mask]:
    """Where the image is uniform, and where it has structure, both (H, W) bool; outside the window neither."""
    smooth = ndimage.gaussian_filter(noisy, SMOOTHING_PIXELS)
    slope = ndimage.gaussian_gradient_magnitude(noisy, SMOOTHING_PIXELS)
    inside = (smooth > MARGIN) & (smooth < 1 - MARGIN)
    uniform = ndimage.binary_erosion(inside & (slope < STEEPEST_PER_PIXEL), iterations=EROSION_PIXELS)
    return uniform, inside & ~uniform


def enough(uniform: Mask, structured: Mask) -> bool:
    """Whether both regions are large enough to estimate an error from."""
    return min(uniform.sum(), structured.sum()) >= FEWEST_PIXELS
