"""Lookahead (Zhang et al., NeurIPS 2019) around the optimizers of the discriminators and of H, as in Algorithm 1."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lookahead(Optimizer):
    """Every ``steps`` steps the slow weights go ``alpha`` of the way to the fast ones, which go on from there.

    The slow weights begin as the initial weights. The learning rate, and all else in ``param_groups``, is
    that of the optimizer inside. ``timm`` begins with the weights of the first synchronization instead, and
    ``torch`` has no Lookahead.

    Parameters
    ----------
    optimizer : Optimizer
        Moves the fast weights; RAdam in Algorithm 1.
    steps : int
        Steps between two synchronizations, k; at least 1.
    alpha : float
        Part of the way, in (0, 1].

    Raises
    ------
    ValueError
        If ``steps`` or ``alpha`` is out of range.
    """

    def __init__(self, optimizer: Optimizer, steps: int = 6, alpha: float = 0.5) -> None:
        if steps < 1 or not 0 < alpha <= 1:
            raise ValueError(
                f"Lookahead of {steps} steps and alpha {alpha}; there must be at least 1, and 0 < alpha <= 1"
            )
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups
        self.steps = steps
        self.alpha = alpha
        self.taken = 0
        self.slow = [p.detach().clone() for p in self._fast()]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step of the optimizer inside; after every ``steps`` of them, synchronize."""
        loss = self.optimizer.step(closure)
        self.taken += 1
        if self.taken % self.steps == 0:
            self._synchronize()
        return loss

    @torch.no_grad()
    def _synchronize(self) -> None:
        for slow, fast in zip(self.slow, self._fast(), strict=True):
            slow.lerp_(fast, self.alpha)
            fast.copy_(slow)

    def _fast(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside, the slow weights and the number of steps, for ``weights_only`` files."""
        return self.optimizer.state_dict() | {"slow": self.slow, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state`` was taken.

        Raises
        ------
        ValueError
            If the state is that of an optimizer without Lookahead.
        """
        if "slow" not in state:
            raise ValueError("this checkpoint was written without Lookahead; go on with --lookahead_steps 0")
        self.optimizer.load_state_dict(state)
        self.param_groups = self.optimizer.param_groups  # loading replaces the groups
        self.taken = state["taken"]
        for slow, saved in zip(self.slow, state["slow"], strict=True):
            slow.copy_(saved)


def with_lookahead(optimizer: Optimizer, steps: int, alpha: float) -> Optimizer:
    """The optimizer inside a :class:`Lookahead`, or itself where ``steps`` is 0."""
    return Lookahead(optimizer, steps, alpha) if steps else optimizer
