"""Algorithm 1 of ISCL as a MONAI trainer: three optimizers, one step each per iteration."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch.optim import Optimizer

from . import losses
from .batch_instance_norm import clip_gates
from .denoiser import ISCLDenoiser


class ISCLTrainer(Trainer):
    """Train F, G, H, DX and DY on unpaired noisy and clean images.

    The order within an iteration is that of the authors' code: discriminators, then F and G, then H.
    F(x), G(y) and H(x) are computed once and serve every loss that sees the same parameters; only H's
    update needs F(x) and G(y) again, because F and G have changed by then. Real and fake images
    are never put into one batch: the statistics of Batch-Instance Normalization are per call.

    Parameters
    ----------
    denoiser : ISCLDenoiser
        The bundle's ``network_def``; holds F and H, and the HU window.
    g_network, dx_network, dy_network : nn.Module
        Generator clean to noisy, discriminators of noisy and of clean images.
    fg_optimizer, d_optimizer, h_optimizer : Optimizer
        Over F and G, over DX and DY, over H.
    lambda_ : float
        Weight of the cycle and bypass terms, equation (6).
    fake_margin : float
        See :func:`losses.discriminator_loss`.
    **engine : Any
        What ``monai.engines.Trainer`` takes.

    Notes
    -----
    A batch is a mapping with ``noisy`` and ``clean``, each (N, 1, H, W) float32 in HU. The output
    holds ``loss`` (the sum) and every term by name, as scalars.
    """

    def __init__(
        self,
        denoiser: ISCLDenoiser,
        g_network: nn.Module,
        dx_network: nn.Module,
        dy_network: nn.Module,
        fg_optimizer: Optimizer,
        d_optimizer: Optimizer,
        h_optimizer: Optimizer,
        lambda_: float = 30.0,
        fake_margin: float = 0.0,
        **engine: Any,
    ) -> None:
        super().__init__(**engine)
        self.denoiser = denoiser
        self.f_network, self.h_network = denoiser.f, denoiser.h
        self.g_network, self.dx_network, self.dy_network = g_network, dx_network, dy_network
        self.fg_optimizer, self.d_optimizer, self.h_optimizer = fg_optimizer, d_optimizer, h_optimizer
        self.lambda_ = lambda_
        self.fake_margin = fake_margin

    def run(self) -> None:
        """Train to the last iteration; where a checkpoint has reached it already, do nothing (ignite starts anew)."""
        last = self.state.max_epochs * self.state.epoch_length
        if self.state.iteration < last:
            super().run()
        else:
            self.logger.info(f"nothing left to do: iteration {self.state.iteration} of {last}")

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """F, G, H, DX, DY."""
        return self.f_network, self.g_network, self.h_network, self.dx_network, self.dy_network

    def _iteration(self, engine: Engine, batchdata: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x, y = (self._prepare(batchdata[key]) for key in ("noisy", "clean"))
        for network in self.networks:
            network.train()
        terms = self.step(x, y)
        engine.state.output = {
            CommonKeys.LOSS: torch.stack([terms["generator"], terms["discriminator"], terms["extractor"]]).sum(),
            **terms,
        }
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _prepare(self, hu: Tensor) -> Tensor:
        on_device = hu.to(self.state.device, non_blocking=self.non_blocking)
        return self.denoiser.window.to_unit(on_device).contiguous(memory_format=torch.channels_last)

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """One iteration of Algorithm 1 on x noisy and y clean, both (N, 1, H, W) in [-1, 1].

        Returns
        -------
        dict of str to Tensor
            The loss terms, detached scalars.
        """
        f_of_x, g_of_y, noise = self.f_network(x), self.g_network(y), self.h_network(x)
        terms = self._update_discriminators(x, y, f_of_x.detach(), g_of_y.detach(), noise.detach())
        terms |= self._update_generators(x, y, f_of_x, g_of_y, noise.detach())
        terms |= self._update_extractor(x, y, noise)
        return {name: term.detach() for name, term in terms.items()}

    def _update_discriminators(
        self, x: Tensor, y: Tensor, f_of_x: Tensor, g_of_y: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        dx, dy, margin = self.dx_network, self.dy_network, self.fake_margin
        clean = losses.discriminator_loss(dy(y), dy(f_of_x), margin)
        noisy = losses.discriminator_loss(dx(x), dx(g_of_y), margin)
        boosting = losses.boosting_loss(dx(y + noise), margin) + losses.boosting_loss(dy(x - noise), margin)
        loss = clean + noisy + boosting
        self._descend(loss, self.d_optimizer, dx, dy)
        return {"discriminator": loss, "d_clean": clean, "d_noisy": noisy, "boosting": boosting}

    def _update_generators(
        self, x: Tensor, y: Tensor, f_of_x: Tensor, g_of_y: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        f, g = self.f_network, self.g_network
        with frozen(self.dx_network, self.dy_network):
            adversarial = losses.adversarial_loss(self.dy_network(f_of_x))
            adversarial = adversarial + losses.adversarial_loss(self.dx_network(g_of_y))
        cycle = losses.cycle_loss(x, g(f_of_x), y, f(g_of_y))
        bypass = losses.bypass_loss(x, y, noise, f_of_x, f(y + noise))
        loss = losses.generator_loss(adversarial, cycle, bypass, self.lambda_)
        self._descend(loss, self.fg_optimizer, f, g)
        return {"generator": loss, "adversarial": adversarial, "cycle": cycle, "bypass": bypass}

    def _update_extractor(self, x: Tensor, y: Tensor, noise: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            f_of_x, g_of_y = self.f_network(x), self.g_network(y)
        pseudo_noise = losses.pseudo_noise_loss(x, noise, f_of_x)
        consistency = losses.noise_consistency_loss(y, g_of_y, self.h_network(g_of_y))
        loss = losses.extractor_loss(pseudo_noise, consistency)
        self._descend(loss, self.h_optimizer, self.h_network)
        return {"extractor": loss, "pseudo_noise": pseudo_noise, "noise_consistency": consistency}

    @staticmethod
    def _descend(loss: Tensor, optimizer: Optimizer, *networks: nn.Module) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        for network in networks:
            clip_gates(network)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Let gradients pass through the networks without computing any for their parameters."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)
