"""The forms of a result follow from one pass of F and of H."""

import numpy as np
import pytest
import torch
from tiny_training import tiny
from torch import nn

from monai_bundle.scripts.evaluation.forms import FORMS, EstimatesInferer
from monai_bundle.scripts.model.denoiser import ISCLDenoiser


@pytest.fixture
def denoiser() -> ISCLDenoiser:
    torch.manual_seed(0)
    denoiser = ISCLDenoiser().eval()
    denoiser.f, denoiser.h = tiny(last=nn.Tanh()), tiny()
    return denoiser


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 1, 21, 30, generator=torch.Generator().manual_seed(3)) * 150


def test_denoised_is_what_the_bundle_gives_and_ensemble_is_without_prior(
    denoiser: ISCLDenoiser, image: torch.Tensor
) -> None:
    with torch.no_grad():
        forms = EstimatesInferer()(image, denoiser).forms()
        expected = denoiser(image)[0, 0].numpy()
        denoiser.noise_prior = None
        without = denoiser(image)[0, 0].numpy()
    assert tuple(forms) == FORMS
    np.testing.assert_array_equal(forms["denoised"], expected)
    np.testing.assert_array_equal(forms["input"], image[0, 0].numpy())
    # float32 HU of some hundreds: the noise is subtracted there, the blend is taken as it is here
    np.testing.assert_allclose(forms["ensemble"], without, rtol=0, atol=1e-3)
    assert not np.allclose(forms["ensemble"], forms["denoised"], atol=1)


def test_gamma_goes_from_x_minus_h_to_f(denoiser: ISCLDenoiser, image: torch.Tensor) -> None:
    with torch.no_grad():
        estimates = EstimatesInferer()(image, denoiser)
        x = denoiser.window.to_unit(image[..., :20, :28])  # sizes that need no padding
        whole = EstimatesInferer()(image[..., :20, :28], denoiser)
        f = denoiser.window.to_hu(denoiser.f(x).clip(-1, 1))[0, 0].numpy()
        h = denoiser.window.to_hu((x - denoiser.h(x)).clip(-1, 1))[0, 0].numpy()
    inside = ((image >= -160) & (image <= 240))[0, 0, :20, :28].numpy()
    np.testing.assert_allclose(whole.blend(1.0)[inside], f[inside], rtol=0, atol=1e-3)
    np.testing.assert_allclose(whole.blend(0.0)[inside], h[inside], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(estimates.blend(1.0), estimates.forms()["F"])
    np.testing.assert_array_equal(estimates.blend(0.0), estimates.forms()["x - H"])


def test_without_an_extractor_there_is_no_form_of_it(denoiser: ISCLDenoiser, image: torch.Tensor) -> None:
    denoiser.h, denoiser.gamma = None, 1.0
    with torch.no_grad():
        forms = EstimatesInferer()(image, denoiser).forms()
        expected = denoiser(image)[0, 0].numpy()
    assert tuple(forms) == ("input", "F", "denoised")
    np.testing.assert_array_equal(forms["denoised"], expected)


def test_each_network_runs_once(denoiser: ISCLDenoiser, image: torch.Tensor) -> None:
    passes = []
    for network in (denoiser.f, denoiser.h):
        network.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        estimates = EstimatesInferer()(image, denoiser)
    estimates.forms()
    for gamma in (0.0, 0.3, 1.0):
        estimates.blend(gamma)
    assert len(passes) == 2
