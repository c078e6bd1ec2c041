"""What a choice in the denoiser costs, side by side; the number in brackets is the ratio to the fastest."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from monai_bundle.scripts.model.denoiser import ISCLDenoiser


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return ISCLDenoiser("abdomen").eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.full((1, 1, 256, 256), 40.0) + 20 * torch.randn(1, 1, 256, 256, generator=torch.manual_seed(0))


@pytest.mark.benchmark(group="one 256 x 256 slice")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"])
def test_memory_layout(
    benchmark: BenchmarkFixture, network: nn.Module, image: Tensor, layout: torch.memory_format
) -> None:
    laid_out, slice_ = network.to(memory_format=layout), image.to(memory_format=layout)
    with torch.inference_mode():
        benchmark.pedantic(laid_out, args=(slice_,), rounds=5, warmup_rounds=1)
