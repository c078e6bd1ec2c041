"""Batch-Instance Normalization against its definition in float64."""

import pytest
import torch
from torch import Tensor

from monai_bundle.scripts.batch_instance_norm import EPSILON, BatchInstanceNorm2d, clip_gates


def layer(gate: float | None = None) -> BatchInstanceNorm2d:
    """Three channels, float64, random affine weights; the gates random unless given."""
    random = torch.Generator().manual_seed(1)
    norm = BatchInstanceNorm2d(3).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0, 1, generator=random)
        if gate is not None:
            norm.gate.fill_(gate)
    return norm


def images(*shape: int) -> Tensor:
    """Images of different mean and contrast, (N, 3, H, W)."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x * torch.arange(1, 1 + shape[0])[:, None, None, None] + torch.arange(shape[0])[:, None, None, None]


def normalized(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(dims, keepdim=True) + EPSILON).sqrt()


def per_channel(p: Tensor) -> Tensor:
    return p[:, None, None]


def test_training_blends_batch_and_instance_normalization() -> None:
    norm, x = layer(), images(4, 3, 5, 6)
    gate, weight, bias = per_channel(norm.gate), per_channel(norm.weight), per_channel(norm.bias)
    expected = weight * (gate * normalized(x, (0, 2, 3)) + (1 - gate) * normalized(x, (2, 3))) + bias
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


def test_training_gradient_is_that_of_the_definition() -> None:
    """The affine shortcut must differentiate through the statistics, too."""
    norm, x = layer().requires_grad_(True), images(2, 3, 3, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0])
def test_batch_of_one_is_instance_normalization_for_any_gate(gate: float) -> None:
    norm, x = layer(gate), images(1, 3, 5, 6)
    expected = per_channel(norm.weight) * normalized(x, (2, 3)) + per_channel(norm.bias)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.eval()(x), expected, rtol=0, atol=1e-12)


def test_evaluation_does_not_see_the_neighbours() -> None:
    norm, x = layer().eval(), images(4, 3, 5, 6)
    for index in range(4):
        torch.testing.assert_close(norm(x)[index], norm(x[index : index + 1])[0], rtol=0, atol=0)


def test_training_sees_the_neighbours() -> None:
    norm, x = layer(), images(4, 3, 5, 6)
    assert not torch.allclose(norm(x)[0], norm(x[:1])[0])


def test_maps_of_one_pixel_have_no_instance_branch() -> None:
    norm, x = layer(), images(4, 3, 1, 1)
    gate, weight, bias = per_channel(norm.gate), per_channel(norm.weight), per_channel(norm.bias)
    torch.testing.assert_close(norm(x), weight * gate * normalized(x, (0, 2, 3)) + bias, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(0.0)(x), bias.expand(x.shape), rtol=0, atol=0)


def test_gates_are_clipped_in_every_layer() -> None:
    network = torch.nn.Sequential(layer(1.7), torch.nn.Sequential(layer(-0.2)), layer(0.4))
    clip_gates(network)
    assert [norm.gate.tolist() for norm in network.modules() if isinstance(norm, BatchInstanceNorm2d)] == [
        [1.0] * 3,
        [0.0] * 3,
        [0.4] * 3,
    ]
