"""Every loss against its equation, written with NumPy."""

import numpy as np
import pytest
import torch

from monai_bundle.scripts.training import losses

RANDOM = np.random.default_rng(0)
A, B, C, D, E = RANDOM.uniform(-1, 1, (5, 3, 1, 4, 4))
SCORES, FAKE_SCORES = RANDOM.normal(0.5, 1, (2, 3, 1, 2, 2))


def mae(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def evaluated(name: str, *arrays: np.ndarray, **options: float) -> float:
    tensors = (torch.from_numpy(np.asarray(array)) for array in arrays)
    return getattr(losses, name)(*tensors, **options).item()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("adversarial_loss", (SCORES,), -SCORES.mean()),
        ("cycle_loss", (A, B, C, D), mae(A, B) + mae(C, D)),
        ("bypass_loss", (A, B, C, D, E), mae(D, A - C) + mae(B, E)),
        ("generator_loss", (0.25, 2.0, 3.0), 0.25 + 30 * 5),
        ("pseudo_noise_loss", (A, B, C), mae(B, A - C)),
        ("noise_consistency_loss", (A, B, C), mae(B - A, C)),
    ],
)
def test_loss_is_its_equation(name: str, arguments: tuple[np.ndarray, ...], expected: float) -> None:
    assert evaluated(name, *arguments) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_discriminator_losses_are_hinges(margin: float) -> None:
    fake = np.maximum(0, margin + FAKE_SCORES).mean()
    real = np.maximum(0, 1 - SCORES).mean()
    assert evaluated("boosting_loss", FAKE_SCORES, fake_margin=margin) == pytest.approx(fake)
    assert evaluated("discriminator_loss", SCORES, FAKE_SCORES, fake_margin=margin) == pytest.approx(real + fake)


def test_adversarial_terms_have_a_weight() -> None:
    assert evaluated("generator_loss", 0.25, 2.0, 3.0, lambda_=10.0, adversarial_weight=0.5) == 0.125 + 10 * 5


def test_margin_zero_is_the_usual_hinge_of_another_score() -> None:
    usual = evaluated("discriminator_loss", 2 * SCORES - 1, 2 * FAKE_SCORES - 1, fake_margin=1.0)
    assert usual == pytest.approx(2 * evaluated("discriminator_loss", SCORES, FAKE_SCORES))
