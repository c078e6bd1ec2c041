"""One training step: what it moves, and that its shared forward passes change nothing."""

from collections.abc import Mapping
from copy import deepcopy

import pytest
import torch
from tiny_training import TinyTraining
from torch import Tensor, nn
from torch.optim import Optimizer, RAdam

from monai_bundle.scripts import losses
from monai_bundle.scripts.batch_instance_norm import BatchInstanceNorm2d, clip_gates
from monai_bundle.scripts.denoiser import ISCLDenoiser
from monai_bundle.scripts.networks import Discriminator, Generator
from monai_bundle.scripts.trainer import ISCLTrainer


def algorithm_1(
    x: Tensor, y: Tensor, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> dict[str, Tensor]:
    """One iteration, translated term by term; every loss with forward passes of its own."""
    f, g, h, dx, dy = networks.values()

    def descend(loss: Tensor, key: str) -> Tensor:
        for network in networks.values():
            network.zero_grad()
        loss.backward()
        optimizers[key].step()
        for network in networks.values():
            clip_gates(network)
        return loss.detach()

    relu = torch.relu
    real = relu(1 - dy(y)).mean() + relu(1 - dx(x)).mean()
    fake = relu(dy(f(x).detach())).mean() + relu(dx(g(y).detach())).mean()
    boosting = relu(dx(y + h(x).detach())).mean() + relu(dy(x - h(x).detach())).mean()
    discriminator = descend(real + fake + boosting, "d")

    adversarial = -dy(f(x)).mean() - dx(g(y)).mean()
    cycle = (x - g(f(x))).abs().mean() + (y - f(g(y))).abs().mean()
    n = h(x).detach()
    bypass = (f(x) - (x - n)).abs().mean() + (y - f(y + n)).abs().mean()
    generator = descend(adversarial + 30 * (cycle + bypass), "fg")

    pseudo = (h(x) - (x - f(x).detach())).abs().mean()
    consistency = (g(y).detach() - y - h(g(y).detach())).abs().mean()
    extractor = descend(pseudo + consistency, "h")
    return {"discriminator": discriminator, "generator": generator, "extractor": extractor}


def batch(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, y = torch.rand(2, 2, 1, size, size, generator=torch.Generator().manual_seed(5), dtype=dtype) * 2 - 1
    return x, y


def rebuilt(optimizer: Optimizer, networks: list[nn.Module]) -> RAdam:
    return RAdam([p for n in networks for p in n.parameters()], lr=optimizer.param_groups[0]["lr"], eps=1e-7)


def reference_of(trainer: ISCLTrainer) -> tuple[dict[str, nn.Module], dict[str, Optimizer]]:
    """Copies of networks and optimizers (the latter before their first step)."""
    networks = dict(zip(("F", "G", "H", "DX", "DY"), deepcopy(trainer.networks), strict=True))
    f, g, h, dx, dy = networks.values()
    return networks, {
        "fg": rebuilt(trainer.fg_optimizer, [f, g]),
        "d": rebuilt(trainer.d_optimizer, [dx, dy]),
        "h": rebuilt(trainer.h_optimizer, [h]),
    }


def test_step_is_algorithm_1() -> None:
    """Float64: only the order of additions differs, so eight steps must agree to nearly all digits."""
    training = TinyTraining()
    for network in training.networks.values():
        network.double()
    networks, optimizers = reference_of(training.trainer)
    x, y = batch(8, torch.float64)
    for _ in range(8):  # RAdam changes its rule at the sixth step
        expected = algorithm_1(x, y, networks, optimizers)
        terms = training.trainer.step(x, y)
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value, rtol=1e-10, atol=0)
    for name, network in networks.items():
        torch.testing.assert_close(training.weights()[name], list(network.parameters()), rtol=0, atol=1e-10)


def test_step_of_the_real_networks_is_algorithm_1() -> None:
    """Float32: gradients are sums of up to 1e5 products (error sqrt(1e5) * 6e-8 = 2e-5 of their size)."""
    torch.manual_seed(0)
    denoiser, g, dx, dy = ISCLDenoiser(), Generator(), Discriminator(), Discriminator()
    groups = [[denoiser.f, g], [dx, dy], [denoiser.h]]
    optimizers = [RAdam([p for n in group for p in n.parameters()], lr=1e-4, eps=1e-7) for group in groups]
    trainer = ISCLTrainer(denoiser, g, dx, dy, *optimizers, device="cpu", max_epochs=1, data_loader=[0])
    networks, reference_optimizers = reference_of(trainer)
    before = [p.detach().clone() for network in networks.values() for p in network.parameters()]
    x, y = batch(64, torch.float32)
    expected, terms = algorithm_1(x, y, networks, reference_optimizers), trainer.step(x, y)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=0)
    after = [p for network in trainer.networks for p in network.parameters()]
    references = [p for network in networks.values() for p in network.parameters()]
    moved = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)])
    apart = torch.cat([(a - r).flatten() for a, r in zip(after, references, strict=True)])
    assert moved.norm() > 0
    assert apart.norm() < 1e-3 * moved.norm()


@pytest.mark.parametrize(
    ("update", "moving"),
    [("_update_discriminators", {"DX", "DY"}), ("_update_generators", {"F", "G"}), ("_update_extractor", {"H"})],
)
def test_each_loss_moves_its_own_networks(update: str, moving: set[str]) -> None:
    training = TinyTraining()
    x, y = batch(8, torch.float32)
    f_of_x, g_of_y, noise = training.denoiser.f(x), training.g(y), training.denoiser.h(x)
    before = training.weights()
    translated = {
        "_update_discriminators": (f_of_x.detach(), g_of_y.detach(), noise.detach()),
        "_update_generators": (f_of_x, g_of_y, noise.detach()),
        "_update_extractor": (noise,),
    }[update]
    getattr(training.trainer, update)(x, y, *translated)
    for optimizer in training.optimizers.values():  # a gradient that leaked would move its network now
        optimizer.step()
    after = training.weights()
    changed = {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}
    assert changed == moving


def test_gates_stay_within_zero_and_one_after_every_step() -> None:
    training = TinyTraining(learning_rate=1.0)
    x, y = batch(8, torch.float32)
    for _ in range(3):
        training.trainer.step(x, y)
        gates = [m.gate for n in training.networks.values() for m in n.modules() if isinstance(m, BatchInstanceNorm2d)]
        assert len(gates) == 5
        assert all(((gate >= 0) & (gate <= 1)).all() for gate in gates)


def test_output_names_every_term() -> None:
    training = TinyTraining(iterations=1)
    training.trainer.run()
    output = {name: float(value) for name, value in training.trainer.state.output.items()}
    assert output["loss"] == pytest.approx(output["generator"] + output["discriminator"] + output["extractor"])
    assert output["discriminator"] == pytest.approx(output["d_clean"] + output["d_noisy"] + output["boosting"])
    assert output["generator"] == pytest.approx(output["adversarial"] + 30 * (output["cycle"] + output["bypass"]))
    assert output["extractor"] == pytest.approx(output["pseudo_noise"] + output["noise_consistency"])


def test_images_are_windowed_to_one() -> None:
    prepared = TinyTraining().trainer._prepare(torch.tensor([-2000.0, -160, 40, 240, 3000])[None, None, :, None])
    assert prepared.flatten().tolist() == [-1, -1, 0, 1, 1]


def test_losses_use_the_margin() -> None:
    training = TinyTraining()
    training.trainer.fake_margin = 1.0
    x, y = batch(8, torch.float32)
    expected = losses.discriminator_loss(training.dy(y), training.dy(training.denoiser.f(x)), 1.0)
    torch.testing.assert_close(training.trainer.step(x, y)["d_clean"], expected.detach())
