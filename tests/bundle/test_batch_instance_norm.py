"""Batch-Instance Normalization against its definition in float64."""

import pytest
import torch
from torch import Tensor

from monai_bundle.scripts.model.batch_instance_norm import (
    EPSILON,
    BatchInstanceNorm2d,
    clip_gates,
    freeze_statistics,
    keep_running_statistics,
    parameter_groups,
)
from monai_bundle.scripts.model.denoiser import ISCLDenoiser


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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 3, 4), (3, 3, 1, 1), (1, 3, 2, 2)])
def test_training_gradient_is_that_of_the_definition(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    """Of the images and of every parameter, against finite differences."""
    norm, x = layer(), images(*shape).contiguous(memory_format=layout).requires_grad_(True)

    def result(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(norm, dict(zip(("weight", "bias", "gate"), parameters, strict=True)), x)

    parameters = [p.detach().clone().requires_grad_(True) for p in (norm.weight, norm.bias, norm.gate)]
    assert torch.autograd.gradcheck(result, (x, *parameters), atol=1e-4 if shape[2] == 1 else 1e-6)


def test_half_precision_keeps_its_type_and_float32_statistics() -> None:
    """The mean of these is far above their spread: bfloat16 statistics would be off by a half."""
    norm = BatchInstanceNorm2d(3)
    x = (100 + images(4, 3, 8, 8)).bfloat16()
    result = norm(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), norm(x.float()), rtol=2**-8, atol=0)


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


@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0])
def test_running_statistics_are_those_of_batch_normalization(gate: float) -> None:
    """Nam and Kim's batch branch is PyTorch's layer, trained and evaluated."""
    norm = layer(gate)
    keep_running_statistics(norm)
    batch_norm = torch.nn.BatchNorm2d(3, eps=EPSILON, affine=False).double()
    for _ in range(3):
        norm(images(4, 3, 5, 6))
        batch_norm(images(4, 3, 5, 6))
    norm.eval()
    batch_norm.eval()
    x = images(2, 3, 7, 7) / 2
    blend = gate * batch_norm(x) + (1 - gate) * normalized(x, (2, 3))
    expected = per_channel(norm.weight) * blend + per_channel(norm.bias)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


def test_running_statistics_are_saved_with_the_weights() -> None:
    trained, loaded = layer(), layer()
    for norm in (trained, loaded):
        keep_running_statistics(norm)
    trained(images(4, 3, 5, 6))
    loaded.load_state_dict(trained.state_dict())
    x = images(2, 3, 5, 6)
    torch.testing.assert_close(trained.eval()(x), loaded.eval()(x), rtol=0, atol=0)
    assert not any(name.startswith("running") for name in layer().state_dict())


def test_switch_reaches_the_networks_that_denoise() -> None:
    torch.manual_seed(0)
    own, running = ISCLDenoiser(), ISCLDenoiser(running_statistics=True)
    for name in ("f", "h"):  # loading the whole would drop the statistics
        getattr(running, name).load_state_dict(getattr(own, name).state_dict(), strict=False)
    image = 100 * images(1, 1, 8, 8).float()
    with torch.no_grad():
        assert not torch.allclose(own.eval()(image), running.eval()(image))
        assert torch.allclose(torch.jit.script(running)(image), running(image), atol=1e-3)


def test_gates_can_have_a_learning_rate_of_their_own() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), layer())
    optimizer = torch.optim.SGD(parameter_groups([network], 1e-4, 10.0))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in network.named_parameters()} == {
        "0.weight": 1e-4,
        "0.bias": 1e-4,
        "1.weight": 1e-4,
        "1.bias": 1e-4,
        "1.gate": pytest.approx(1e-3),
    }


def test_factor_one_is_one_group_of_all_parameters() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), layer())
    (group,) = parameter_groups([network], 1e-4)
    assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]
    assert group["lr"] == 1e-4


def test_gates_are_clipped_in_every_layer() -> None:
    network = torch.nn.Sequential(layer(1.7), torch.nn.Sequential(layer(-0.2)), layer(0.4))
    clip_gates(network)
    assert [norm.gate.tolist() for norm in network.modules() if isinstance(norm, BatchInstanceNorm2d)] == [
        [1.0] * 3,
        [0.0] * 3,
        [0.4] * 3,
    ]


def test_frozen_training_computes_what_evaluation_computes() -> None:
    norm = layer(gate=0.3)
    keep_running_statistics(norm)
    norm.train()(images(4, 3, 8, 8))
    freeze_statistics(norm)
    before = norm.running_mean.clone()
    x = images(2, 3, 8, 8)
    torch.testing.assert_close(norm.train()(x), norm.eval()(x), rtol=0, atol=0)
    torch.testing.assert_close(norm.running_mean, before, rtol=0, atol=0)
    expected = (x - norm.running_mean[:, None, None]) * torch.rsqrt(norm.running_var + EPSILON)[:, None, None]
    torch.testing.assert_close(norm(x), norm.weight[:, None, None] * expected + norm.bias[:, None, None])


def test_statistics_that_do_not_exist_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match="running_statistics"):
        freeze_statistics(BatchInstanceNorm2d(2))
