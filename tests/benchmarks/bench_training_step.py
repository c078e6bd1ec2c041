"""The shipped training step against a direct translation of Algorithm 1, round by round on the same batch."""

from statistics import median
from time import perf_counter

import pytest
import torch
from algorithm_1 import Algorithm1, unit_batch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.optim import RAdam

from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.model.networks import Discriminator, Generator
from monai_bundle.scripts.training.trainer import ISCLTrainer

PATCHES = 8
LOSS_TOLERANCE = 1e-5
"""Relative; a loss is a mean of up to 3e4 float32 values behind up to 20 layers, each good to 1e-7."""
GRADIENT_TOLERANCE = 1e-2
"""Relative, of a network's whole gradient. The gradient of an L1 loss is a mean of signs, and where x and its
estimate agree to rounding the sign is chance: either form is up to 7e-3 from the float64 gradient (of H), and in
float64 they agree to 1e-9, see test_iscl_trainer.py."""


def trainer() -> ISCLTrainer:
    torch.manual_seed(0)
    denoiser, g, dx, dy = ISCLDenoiser(), Generator(), Discriminator(), Discriminator()
    groups = [[denoiser.f, g], [dx, dy], [denoiser.h]]
    optimizers = [RAdam([p for n in group for p in n.parameters()], lr=1e-4, eps=1e-7) for group in groups]
    return ISCLTrainer(denoiser, g, dx, dy, *optimizers, device="cpu", max_epochs=1, data_loader=[0])


def gradient(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.benchmark(group=f"one iteration on {PATCHES} pairs of patches")
def test_training_step(benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = trainer()
    direct = Algorithm1.of(shipped)
    x, y = unit_batch(PATCHES, 64)
    for network in shipped.networks:
        network.to(memory_format=torch.channels_last)
    laid_out = [image.contiguous(memory_format=torch.channels_last) for image in (x, y)]

    expected, terms = direct.step(x, y), shipped.step(*laid_out)
    for name, loss in expected.items():
        torch.testing.assert_close(terms[name], loss, rtol=LOSS_TOLERANCE, atol=0)
    for (name, reference), network in zip(direct.networks.items(), shipped.networks, strict=True):
        apart = (gradient(network) - gradient(reference)).norm() / gradient(reference).norm()
        assert apart < GRADIENT_TOLERANCE, f"{name}: {apart:.1e}"

    seconds: list[float] = []

    def direct_step() -> None:
        start = perf_counter()
        direct.step(x, y)
        seconds.append(perf_counter() - start)

    benchmark.pedantic(shipped.step, args=laid_out, setup=direct_step, rounds=5, warmup_rounds=1)
    own = benchmark.stats.stats.median
    with capsys.disabled():
        print(
            f"\n{median(seconds):.2f} s as printed, {own:.2f} s as shipped: {median(seconds) / own:.2f} times as fast"
        )
