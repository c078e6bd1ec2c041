"""The networks against the paper's figures and independent statements of their unusual layers."""

import numpy as np
import pytest
import torch

from monai_bundle.scripts.model.networks import (
    KERNEL_STD,
    CroppedConvTranspose2d,
    Discriminator,
    Generator,
    NoiseExtractor,
    SymmetricPad2d,
)


@pytest.mark.parametrize(
    ("network", "count"), [(Generator, 1_148_225), (NoiseExtractor, 168_801), (Discriminator, 2_790_177)]
)
def test_parameter_counts(network: type[torch.nn.Module], count: int) -> None:
    assert sum(p.numel() for p in network().parameters()) == count


@pytest.mark.parametrize(("size", "scores"), [(64, 1), (128, 5)])
def test_discriminator_scores(size: int, scores: int) -> None:
    with torch.no_grad():
        assert Discriminator()(torch.rand(2, 1, size, size)).shape == (2, 1, scores, scores)


@pytest.mark.parametrize("network", [Generator, NoiseExtractor])
@pytest.mark.parametrize("size", [(4, 8), (32, 20)])
def test_output_has_the_size_of_the_input(network: type[torch.nn.Module], size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network()(torch.rand(2, 1, *size)).shape == (2, 1, *size)


def test_generator_stays_within_one() -> None:
    with torch.no_grad():
        result = Generator()(100 * torch.randn(2, 1, 16, 16))
    assert result.abs().max() <= 1


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("size", [(3, 4), (7, 5)])
def test_symmetric_padding_is_numpys(width: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, *size))
    expected = np.pad(x, ((0, 0), (0, 0), (width, width), (width, width)), mode="symmetric")
    np.testing.assert_array_equal(SymmetricPad2d(width)(torch.from_numpy(x)).numpy(), expected)


def test_transposed_convolution_is_tensorflows_same() -> None:
    """TensorFlow: the transpose of a stride-2 convolution that pads 2n pixels by 0 before and 1 after."""
    layer = CroppedConvTranspose2d(2, 3).double()
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 5))
    kernel, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    padded = np.zeros((1, 3, 9, 11))
    for row, column in np.ndindex(4, 5):
        for i, j in np.ndindex(3, 3):
            padded[:, :, 2 * row + i, 2 * column + j] += x[:, :, row, column] @ kernel[:, :, i, j]
    with torch.no_grad():
        result = layer(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(result, padded[:, :, :8, :10] + bias[:, None, None], atol=1e-13)


@pytest.mark.parametrize("network", [Generator, NoiseExtractor, Discriminator])
def test_initial_weights(network: type[torch.nn.Module]) -> None:
    for layer in network().modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert layer.weight.abs().max() <= 2 * KERNEL_STD
            assert not layer.bias.any()
            if layer.weight.numel() > 4000:  # the normal distribution cut at two sigma has 0.88 of its sigma
                assert layer.weight.std().item() == pytest.approx(0.88 * KERNEL_STD, rel=0.05)
