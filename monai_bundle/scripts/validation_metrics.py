"""What a validation measures."""

from collections.abc import Mapping

from ignite.metrics import Metric
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric, PSNRMetric, SSIMMetric
from monai.utils import CommonKeys
from torch import Tensor

from .window import HUWindow


def key_metric(paired: bool, window: HUWindow) -> dict[str, Metric]:
    """What decides which weights are best, by name; more is better.

    Parameters
    ----------
    paired : bool
        Whether there are normal images: PSNR in the window, dB, if so.
    window : HUWindow
        What counts of an image.
    """
    return {"psnr": _measure(PSNRMetric(max_val=1.0), window, CommonKeys.LABEL)}


def additional_metrics(paired: bool, window: HUWindow) -> dict[str, Metric]:
    """What is logged beside it: SSIM in the window with squares of 7 pixels, as in the paper."""
    ssim = SSIMMetric(spatial_dims=2, data_range=1.0, kernel_type="uniform", win_size=7)
    return {"ssim": _measure(ssim, window, CommonKeys.LABEL)}


def _measure(metric: CumulativeIterationMetric, window: HUWindow, reference: str) -> Metric:
    """The mean over the slices of what ``metric`` says of the result and the reference, in the window as [0, 1]."""

    def windowed(output: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        pred, other = ((window.to_unit(output[key]) + 1.0) / 2.0 for key in (CommonKeys.PRED, reference))
        return pred, other

    return IgniteMetricHandler(metric, output_transform=windowed, save_details=False)
