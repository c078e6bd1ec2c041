"""One training step: what it moves, and that its shared forward passes change nothing."""

import pytest
import torch
from algorithm_1 import Algorithm1, unit_batch
from tiny_training import TinyTraining, tiny
from torch import Tensor
from torch.optim import RAdam

from monai_bundle.scripts.model import batch_instance_norm
from monai_bundle.scripts.model.batch_instance_norm import BatchInstanceNorm2d
from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.model.networks import Discriminator, Generator
from monai_bundle.scripts.training import losses
from monai_bundle.scripts.training.trainer import ISCLTrainer

SWITCHES = ("pseudo_noise", "bypass", "boosting", "noise_consistency")
ROWS_OF_TABLE_1 = {"A": 0, "A+B": 1, "A+B+C": 2, "A+B+C+D": 3, "A+B+C+D+E": 4}
"""How many of the switches are on."""


def row(on: int) -> dict[str, bool]:
    return {name: number < on for number, name in enumerate(SWITCHES)}


def double(training: TinyTraining) -> TinyTraining:
    for network in training.networks.values():
        network.double()
    return training


def changed(before: dict[str, list[Tensor]], after: dict[str, list[Tensor]]) -> set[str]:
    """Names of the networks whose weights differ."""
    return {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}


@pytest.mark.parametrize("order", ["discriminators_first", "generators_first"])
@pytest.mark.parametrize("on", ROWS_OF_TABLE_1.values(), ids=ROWS_OF_TABLE_1.keys())
def test_step_is_algorithm_1(on: int, order: str) -> None:
    """Float64: only the order of additions differs, so eight steps must agree to nearly all digits."""
    training = double(TinyTraining(options={"update_order": order, **row(on)}))
    reference = Algorithm1.of(
        training.trainer, generators_first=order == "generators_first", without=frozenset(SWITCHES[on:])
    )
    x, y = unit_batch(2, 8, torch.float64)
    for _ in range(8):  # RAdam changes its rule at the sixth step
        expected = reference.step(x, y)
        terms = training.trainer.step(x, y)
        for name in expected.keys() & terms.keys():
            torch.testing.assert_close(terms[name], expected[name], rtol=1e-10, atol=0)
    for name, network in reference.networks.items():
        torch.testing.assert_close(training.weights()[name], list(network.parameters()), rtol=0, atol=1e-10)


def test_gradients_of_the_real_networks_are_those_of_algorithm_1() -> None:
    """Float64, so that a difference in formula is told from rounding, which 20 normalized layers amplify to 1e-9."""
    torch.manual_seed(0)
    denoiser, g, dx, dy = (
        ISCLDenoiser().double(),
        Generator().double(),
        Discriminator().double(),
        Discriminator().double(),
    )
    groups = [[denoiser.f, g], [dx, dy], [denoiser.h]]
    optimizers = [RAdam([p for n in group for p in n.parameters()], lr=1e-4, eps=1e-7) for group in groups]
    trainer = ISCLTrainer(denoiser, g, dx, dy, *optimizers, device="cpu", max_epochs=1, data_loader=[0])
    reference = Algorithm1.of(trainer)
    x, y = unit_batch(2, 64, torch.float64)
    expected, terms = reference.step(x, y), trainer.step(x, y)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=0)
    for network, printed in zip(trainer.networks, reference.networks.values(), strict=True):
        gradient, true = (torch.cat([p.grad.flatten() for p in n.parameters()]) for n in (network, printed))
        assert true.norm() > 0
        assert (gradient - true).norm() < 1e-9 * true.norm()


def test_discriminators_may_learn_alone_at_first() -> None:
    training = TinyTraining(iterations=2, options={"discriminators_alone": 2})
    before = training.weights()
    training.trainer.run()
    assert changed(before, training.weights()) == {"DX", "DY"}
    assert set(training.trainer.state.output[0]) == {"loss", "discriminator", "d_clean", "d_noisy", "boosting"}

    training = TinyTraining(iterations=3, options={"discriminators_alone": 2})
    training.trainer.run()
    assert changed(before, training.weights()) == {"F", "G", "H", "DX", "DY"}


@pytest.mark.parametrize(("on", "still"), [(0, {"H"}), (1, set()), (2, set()), (3, set()), (4, set())])
def test_rows_of_table_1_train_their_networks(on: int, still: set[str]) -> None:
    training = TinyTraining(options=row(on))
    before = training.weights()
    training.trainer.step(*unit_batch(2, 8))
    assert changed(before, training.weights()) == {"F", "G", "H", "DX", "DY"} - still


def terms_of(on: int) -> set[str]:
    sums = {"generator", "discriminator"} | ({"extractor"} if on else set())
    return sums | {"adversarial_clean", "adversarial_noisy", "cycle", "d_clean", "d_noisy", *SWITCHES[:on]}


@pytest.mark.parametrize("on", range(5))
def test_output_names_every_term_that_is_on(on: int) -> None:
    training = TinyTraining(iterations=1, options={"adversarial_weight": 0.7, "lambda_": 20.0, **row(on)})
    training.trainer.run()
    output = {name: float(value) for name, value in training.trainer.state.output[0].items()}
    assert output.keys() == {"loss"} | terms_of(on)

    def total(*names: str) -> float:
        return sum(output.get(name, 0.0) for name in names)

    assert output["loss"] == pytest.approx(total("generator", "discriminator", "extractor"))
    assert output["discriminator"] == pytest.approx(total("d_clean", "d_noisy", "boosting"))
    adversarial, nested = total("adversarial_clean", "adversarial_noisy"), total("cycle", "bypass")
    assert output["generator"] == pytest.approx(0.7 * adversarial + 20 * nested)
    assert total("extractor") == pytest.approx(total("pseudo_noise", "noise_consistency"))


@pytest.mark.parametrize("switch", ["bypass", "boosting"])
def test_switches_that_need_the_extractor_say_so(switch: str) -> None:
    with pytest.raises(ValueError, match="need H: switch on pseudo_noise"):
        TinyTraining(options=row(0) | {switch: True})


def test_unknown_order_is_named() -> None:
    with pytest.raises(ValueError, match="'gdh'; there are discriminators_first, generators_first"):
        TinyTraining(options={"update_order": "gdh"})


@pytest.mark.parametrize(
    ("update", "moving"),
    [("_update_discriminators", {"DX", "DY"}), ("_update_generators", {"F", "G"}), ("_update_extractor", {"H"})],
)
def test_each_loss_moves_its_own_networks(update: str, moving: set[str]) -> None:
    training = TinyTraining()
    x, y = unit_batch(2, 8)
    f_of_x, g_of_y, noise = training.denoiser.f(x), training.g(y), training.denoiser.h(x)
    before = training.weights()
    translated = {
        "_update_discriminators": (f_of_x.detach(), g_of_y.detach(), noise.detach()),
        "_update_generators": (f_of_x, g_of_y, noise.detach()),
        "_update_extractor": (f_of_x.detach(), g_of_y.detach(), noise),
    }[update]
    getattr(training.trainer, update)(x, y, *translated)
    for optimizer in training.optimizers.values():  # a gradient that leaked would move its network now
        optimizer.step()
    assert changed(before, training.weights()) == moving


@pytest.mark.parametrize("lookahead_steps", [0, 2])
def test_gates_stay_within_zero_and_one_after_every_step(lookahead_steps: int) -> None:
    training = TinyTraining(learning_rate=1.0, lookahead_steps=lookahead_steps)
    x, y = unit_batch(2, 8)
    for _ in range(3):
        training.trainer.step(x, y)
        gates = [m.gate for n in training.networks.values() for m in n.modules() if isinstance(m, BatchInstanceNorm2d)]
        assert len(gates) == 5
        assert all(((gate >= 0) & (gate <= 1)).all() for gate in gates)


def test_images_are_windowed_to_one() -> None:
    prepared = TinyTraining().trainer._prepare(torch.tensor([-2000.0, -160, 40, 240, 3000])[None, None, :, None])
    assert prepared.flatten().tolist() == [-1, -1, 0, 1, 1]


def test_losses_use_the_margin() -> None:
    training = TinyTraining()
    training.trainer.fake_margin = 1.0
    x, y = unit_batch(2, 8)
    expected = losses.discriminator_loss(training.dy(y), training.dy(training.denoiser.f(x)), 1.0)
    torch.testing.assert_close(training.trainer.step(x, y)["d_clean"], expected.detach())


def test_usual_hinge_at_half_strength_is_margin_zero() -> None:
    """Score S = 2 D - 1: margin 1 and weight 0.5 move F and G as margin 0 does; the discriminators' loss doubles."""
    plain = double(TinyTraining())
    usual = double(TinyTraining(options={"fake_margin": 1.0, "adversarial_weight": 0.5}))
    with torch.no_grad():
        for discriminator in (usual.dx, usual.dy):
            discriminator[3].weight.mul_(2)
            discriminator[3].bias.mul_(2).sub_(1)
    x, y = unit_batch(2, 8, torch.float64)
    translated = [(t.denoiser.f(x), t.g(y), t.denoiser.h(x).detach()) for t in (plain, usual)]
    terms = [t.trainer._update_generators(x, y, *images) for t, images in zip((plain, usual), translated, strict=True)]
    torch.testing.assert_close(plain.weights(("F", "G")), usual.weights(("F", "G")), rtol=0, atol=1e-13)
    assert terms[1]["generator"].item() == pytest.approx(terms[0]["generator"].item() + 1, rel=1e-12)
    d_terms = [
        t.trainer._update_discriminators(x, y, *(image.detach() for image in images))
        for t, images in zip((plain, usual), translated, strict=True)
    ]
    assert d_terms[1]["discriminator"].item() == pytest.approx(2 * d_terms[0]["discriminator"].item(), rel=1e-12)


def test_bfloat16_computes_in_it_and_keeps_weights_and_losses_precise() -> None:
    """bfloat16 has 8 bits: a term, a mean over many pixels, is good to a few of the last."""
    plain, mixed = TinyTraining(), TinyTraining(options={"amp": "bf16"})
    computed: set[torch.dtype] = set()
    for network in mixed.networks.values():
        network[0].register_forward_hook(lambda _, __, result: computed.add(result.dtype))
    x, y = unit_batch(2, 8)
    expected, terms = plain.trainer.step(x, y), mixed.trainer.step(x, y)
    assert computed == {torch.bfloat16}
    for name, term in terms.items():
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, expected[name], rtol=0.05, atol=0.02)
    assert {p.dtype for weights in mixed.weights().values() for p in weights} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amp": "fp16"}, "--amp fp16 needs a CUDA GPU and this device is cpu; write --amp no"),
        ({"compile_networks": True}, "--compile True needs a CUDA GPU and this device is cpu; write --compile False"),
        ({"amp": "half"}, "--amp is half; there are no, bf16, fp16"),
    ],
)
def test_what_the_device_cannot_do_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        TinyTraining(options=options)


def test_scaled_losses_move_the_weights_alike() -> None:
    """A power of two changes no bit of the gradient; the gates are still clipped."""
    plain = TinyTraining(lookahead_steps=2)
    scaled = TinyTraining(lookahead_steps=2, options={"grad_scaler": torch.amp.GradScaler("cpu", init_scale=1024.0)})
    for _ in range(3):
        terms = [training.trainer.step(*unit_batch(2, 8)) for training in (plain, scaled)]
    torch.testing.assert_close(plain.weights(), scaled.weights(), rtol=0, atol=0)
    assert terms[0] == terms[1]


def test_overflow_skips_the_step_and_lowers_the_scale() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    training = TinyTraining(options={"grad_scaler": scaler})
    before = training.weights()
    training.trainer.step(*unit_batch(2, 8))
    assert "F" not in changed(before, training.weights())
    assert scaler.get_scale() == 2.0**126


def test_compiler_takes_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph, forward and backward, with the statistics of other devices than the CPU; names of the weights stay."""

    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x.var((2, 3), correction=0)

    def sums(gradient: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        return gradient.sum((2, 3)), (gradient * (x - mean[:, :, None, None])).sum((2, 3))

    monkeypatch.setattr(batch_instance_norm, "image_statistics", statistics)
    monkeypatch.setattr(batch_instance_norm, "image_sums", sums)
    plain, compiled = tiny(), tiny()
    compiled.load_state_dict(plain.state_dict())
    compiled.compile(backend="aot_eager", fullgraph=True)
    x, _ = unit_batch(2, 8)
    results = [network(x) for network in (plain, compiled)]
    torch.testing.assert_close(results[0], results[1])
    for result in results:
        result.square().sum().backward()
    gradients = [[p.grad for p in network.parameters()] for network in (plain, compiled)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
