"""What a validation measures."""

from collections.abc import Mapping, Sequence

import torch
from ignite.metrics import Metric
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric, PSNRMetric, SSIMMetric
from monai.utils import CommonKeys
from torch import Tensor

from ..arguments import mistakes_in_one_line
from ..evaluation.no_reference import EstimatedPSNR, Image, enough, regions
from ..model.window import HUWindow


@mistakes_in_one_line
def key_metric(slices: Sequence[Mapping[str, Image]], window: HUWindow) -> dict[str, Metric]:
    """What decides which weights are best, by name; more is better.

    For pairs it is the PSNR in the window, dB; otherwise what is estimated for it without normal images, see
    :func:`.no_reference.estimated_error`.

    Parameters
    ----------
    slices : sequence
        What will be validated: ``image`` and, in pairs, ``label``, each (1, H, W), HU.
    window : HUWindow
        What the networks see of an image; what it is measured in counts.

    Raises
    ------
    ValueError
        If nothing can be estimated from any of the slices.
    """
    if _paired(slices):
        return {"psnr": _measure(PSNRMetric(max_val=1.0), window, CommonKeys.LABEL)}
    shown = HUWindow(*window.measured())
    images = (torch.as_tensor(each[CommonKeys.IMAGE][0]) for each in slices)
    if not any(enough(*regions((shown.to_unit(image).numpy() + 1) / 2)) for image in images):
        raise ValueError(
            "no slice in --validation_noisy_dir has uniform regions and structure inside the window to estimate the "
            "error from; give pairs, with --validation_clean_dir as well"
        )
    return {"estimated_psnr": _measure(EstimatedPSNR(), window, CommonKeys.IMAGE)}


def additional_metrics(slices: Sequence[Mapping[str, Image]], window: HUWindow) -> dict[str, Metric]:
    """What is logged beside it: for pairs SSIM in the window with squares of 7 pixels, as in the paper."""
    if not _paired(slices):
        return {}
    ssim = SSIMMetric(spatial_dims=2, data_range=1.0, kernel_type="uniform", win_size=7)
    return {"ssim": _measure(ssim, window, CommonKeys.LABEL)}


def _paired(slices: Sequence[Mapping[str, Image]]) -> bool:
    """Whether there is something to compare with; also where there are no slices at all."""
    return not len(slices) or CommonKeys.LABEL in slices[0]


def _measure(metric: CumulativeIterationMetric, window: HUWindow, reference: str) -> Metric:
    """The mean over the slices of what ``metric`` says of the result and the reference, in the window as [0, 1]."""

    shown = HUWindow(*window.measured())

    def windowed(output: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        pred, other = ((shown.to_unit(output[key]) + 1.0) / 2.0 for key in (CommonKeys.PRED, reference))
        return pred, other

    return IgniteMetricHandler(metric, output_transform=windowed, save_details=False)
