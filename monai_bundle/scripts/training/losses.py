"""The losses of ISCL, one function per equation of Lee and Jeong, IEEE TMI 2021.

``x`` noisy, ``y`` clean and unpaired, ``F(x)`` and ``G(y)`` translated, ``H(x)`` the noise. Every argument is
a tensor of one shape (N, 1, H, W) in [-1, 1] (scores: any shape); every result is a scalar, a mean over all
elements: the paper's expectation of the L1 norm is the mean absolute error.
"""

from torch import Tensor
from torch.nn import functional


def adversarial_loss(score_of_fake: Tensor) -> Tensor:
    """-D(fake), the generator's part of the adversarial terms in equations (2) and (3)."""
    return -score_of_fake.mean()


def cycle_loss(x: Tensor, x_cycled: Tensor, y: Tensor, y_cycled: Tensor) -> Tensor:
    """|x - G(F(x))| + |y - F(G(y))|, equation (5)."""
    return functional.l1_loss(x_cycled, x) + functional.l1_loss(y_cycled, y)


def bypass_loss(x: Tensor, y: Tensor, noise: Tensor, f_of_x: Tensor, f_of_y_plus_noise: Tensor) -> Tensor:
    """|F(x) - (x - H(x))| + |y - F(y + H(x))|, equation (6); ``noise`` is H(x), a constant here."""
    return functional.l1_loss(f_of_x, x - noise) + functional.l1_loss(f_of_y_plus_noise, y)


def generator_loss(
    adversarial: Tensor,
    cycle: Tensor,
    bypass: Tensor | float,
    lambda_: float = 30.0,
    adversarial_weight: float = 1.0,
) -> Tensor:
    """Adversarial terms plus lambda times cycle and bypass, equations (1) and (4)."""
    return adversarial_weight * adversarial + lambda_ * (cycle + bypass)


def discriminator_loss(score_of_real: Tensor, score_of_fake: Tensor, fake_margin: float = 0.0) -> Tensor:
    """relu(1 - D(real)) + relu(fake_margin + D(fake)), what equations (8) and (9) mean.

    As printed both lost signs: neither minimized nor maximized do they train a
    discriminator. ``fake_margin=1`` is the usual hinge; ``0`` is the form of the authors' code.

    The two are one loss for two scores: with S = 2 D - 1, relu(1 - S) + relu(1 + S) = 2 [relu(1 - D) +
    relu(D)] and -S = -2 D + 1. The last convolution of a discriminator is free to scale and shift its score,
    so margin 0 is margin 1 with an adversarial weight of 0.5 in :func:`generator_loss`.
    """
    return functional.relu(1 - score_of_real).mean() + boosting_loss(score_of_fake, fake_margin)


def boosting_loss(score_of_fake: Tensor, fake_margin: float = 0.0) -> Tensor:
    """relu(fake_margin + D(fake)) for a further fake, y + H(x) or x - H(x): equations (8) and (9)."""
    return functional.relu(fake_margin + score_of_fake).mean()


def pseudo_noise_loss(x: Tensor, noise: Tensor, f_of_x: Tensor) -> Tensor:
    """|H(x) - (x - F(x))|, equation (10); F(x) is a constant here."""
    return functional.l1_loss(noise, x - f_of_x)


def noise_consistency_loss(y: Tensor, g_of_y: Tensor, noise_of_g: Tensor) -> Tensor:
    """|(G(y) - y) - H(G(y))|, equation (11); G(y) is a constant here."""
    return functional.l1_loss(noise_of_g, g_of_y - y)
