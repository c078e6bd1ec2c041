"""Lookahead against its definition: slow weights, synchronization, and a resume that changes nothing."""

import io
from collections.abc import Callable

import pytest
import torch
from tiny_training import TinyTraining
from torch import Tensor
from torch.optim import SGD, RAdam
from torch.optim.lr_scheduler import LinearLR

from monai_bundle.scripts.training.lookahead import Lookahead, with_lookahead


def descent(optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> tuple[Tensor, torch.optim.Optimizer]:
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    return weight, optimizer([weight])


def go(weight: Tensor, optimizer: torch.optim.Optimizer, steps: int = 1) -> Tensor:
    """Minimize the fourth power."""
    for _ in range(steps):
        optimizer.zero_grad()
        (weight**4).sum().backward()
        optimizer.step()
    return weight.detach().clone()


def test_synchronizes_at_every_sixth_step() -> None:
    """Fast weights are those of the optimizer inside but at steps 6, 12: half way from the slow weights."""
    weight, lookahead = descent(lambda p: Lookahead(SGD(p, lr=0.01), 6, 0.5))
    slow = expected = weight.detach().clone()
    for step in range(1, 15):
        expected = expected - 0.01 * 4 * expected**3
        if step % 6 == 0:
            slow = expected = slow + 0.5 * (expected - slow)
        torch.testing.assert_close(go(weight, lookahead), expected, rtol=1e-12, atol=0)


def test_resumed_from_a_file_is_bitwise_the_uninterrupted_one() -> None:
    weight, whole = descent(lambda p: Lookahead(RAdam(p, lr=0.01), 6, 0.5))
    go(weight, whole, 8)
    file = io.BytesIO()
    torch.save({"weight": weight.detach(), "optimizer": whole.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed_weight, resumed = descent(lambda p: Lookahead(RAdam(p, lr=0.5), 6, 0.5))
    with torch.no_grad():
        resumed_weight.copy_(saved["weight"])
    resumed.load_state_dict(saved["optimizer"])
    assert torch.equal(go(weight, whole, 10), go(resumed_weight, resumed, 10))


def test_schedulers_of_torch_move_the_optimizer_inside() -> None:
    weight, lookahead = descent(lambda p: Lookahead(SGD(p, lr=1.0)))
    schedule = LinearLR(lookahead, start_factor=0.5, total_iters=2)
    assert lookahead.optimizer.param_groups[0]["lr"] == 0.5
    go(weight, lookahead)
    schedule.step()
    assert lookahead.optimizer.param_groups[0]["lr"] == 0.75


def test_zero_steps_turn_it_off() -> None:
    _, plain = descent(lambda p: SGD(p, lr=1.0))
    assert with_lookahead(plain, 0, 0.5) is plain
    assert with_lookahead(plain, 6, 0.5).steps == 6


def test_state_without_lookahead_is_refused() -> None:
    _, plain = descent(lambda p: SGD(p, lr=1.0))
    with pytest.raises(ValueError, match="without Lookahead; go on with --lookahead_steps 0"):
        Lookahead(plain).load_state_dict(plain.state_dict())


def test_turned_off_a_training_goes_on_from_the_fast_weights() -> None:
    weight, lookahead = descent(lambda p: Lookahead(RAdam(p, lr=0.01)))
    go(weight, lookahead, 3)
    _, plain = descent(lambda p: RAdam(p, lr=0.5))
    plain.load_state_dict(lookahead.state_dict())
    assert plain.param_groups[0]["lr"] == 0.01
    assert "slow" not in plain.state_dict()


@pytest.mark.parametrize(("steps", "alpha"), [(0, 0.5), (6, 0.0), (6, 1.5)])
def test_impossible_settings_are_refused(steps: int, alpha: float) -> None:
    _, plain = descent(lambda p: SGD(p, lr=1.0))
    with pytest.raises(ValueError, match=f"{steps} steps and alpha {alpha}"):
        Lookahead(plain, steps, alpha)


def test_discriminators_and_extractor_look_ahead_in_training() -> None:
    """After a synchronization the live weights are the slow ones, gates clipped."""
    training = TinyTraining(lookahead_steps=2, iterations=4)
    training.trainer.run()
    for key, names in (("d", ("DX", "DY")), ("h", ("H",))):
        live = [p for name in names for p in training.networks[name].named_parameters()]
        for (name, weight), slow in zip(live, training.optimizers[key].slow, strict=True):
            expected = slow.clamp(0, 1) if name.endswith("gate") else slow
            torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=0)
    assert isinstance(training.optimizers["fg"], RAdam)
