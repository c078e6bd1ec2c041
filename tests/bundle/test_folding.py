"""Folded normalization computes the same, and is left alone where it depends on the image."""

import copy

import pytest
import torch
from torch import nn

from monai_bundle.scripts.model.batch_instance_norm import BatchInstanceNorm2d
from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.model.folding import fold_normalization


@pytest.fixture
def denoiser() -> ISCLDenoiser:
    """With statistics and weights as no initialization gives them."""
    torch.manual_seed(0)
    network = ISCLDenoiser("abdomen", running_statistics=True)
    for module in network.modules():
        if isinstance(module, BatchInstanceNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            assert module.running_mean is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.2, 2)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, BatchInstanceNorm2d) for module in network.modules())


@torch.inference_mode()
def test_folded_it_computes_the_same(denoiser: ISCLDenoiser) -> None:
    image = 40 + 60 * torch.randn(1, 1, 70, 61)
    folded = copy.deepcopy(denoiser)
    count = norms(denoiser)
    assert fold_normalization(folded) == count > 20
    assert norms(folded) == 0
    torch.testing.assert_close(folded(image), denoiser(image), rtol=0, atol=5e-3)


@torch.inference_mode()
def test_a_gate_or_missing_statistics_keep_the_normalization(denoiser: ISCLDenoiser) -> None:
    first = next(module for module in denoiser.modules() if isinstance(module, BatchInstanceNorm2d))
    first.gate[0] = 0.5
    count = norms(denoiser)
    assert fold_normalization(denoiser) == count - 1
    assert fold_normalization(ISCLDenoiser("abdomen")) == 0
