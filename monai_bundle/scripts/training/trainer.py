"""Algorithm 1 of ISCL as a MONAI trainer: three optimizers, one step each per iteration."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from ..arguments import mistakes_in_one_line
from ..model.batch_instance_norm import clip_gates
from ..model.denoiser import ISCLDenoiser
from . import distributed, losses
from .lookahead import Lookahead

NETWORK_NAMES = ("F", "G", "H", "DX", "DY")
"""The paper's letters, in the order of :attr:`ISCLTrainer.networks`."""

UPDATE_ORDERS = ("discriminators_first", "generators_first")
"""The order within an iteration: that of the authors' code, and that of the paper's Algorithm 1."""

AMP_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""In what the networks compute; weights, losses, and the statistics of the normalization stay float32."""

Terms = dict[str, Tensor]


class ISCLTrainer(Trainer):
    """Train F, G, H, DX and DY on unpaired noisy and clean images.

    F(x), G(y) and H(x) are computed once and serve every loss that sees the same parameters; only after
    the update of F and G they are needed again. Real and fake images are never put into one batch: the
    statistics of Batch-Instance Normalization are per call.

    The rows of the paper's Table I are (A) none of the four switches, which leaves H as it is, (B)
    ``pseudo_noise``, (C) ``bypass`` as well, (D) ``boosting`` as well, (E) ``noise_consistency`` as well.

    Parameters
    ----------
    denoiser : ISCLDenoiser
        The bundle's ``network_def``; holds F and H, and the HU window.
    g_network, dx_network, dy_network : nn.Module
        Generator clean to noisy, discriminators of noisy and of clean images.
    fg_optimizer, d_optimizer, h_optimizer : Optimizer
        Over F and G, over DX and DY, over H.
    lambda_ : float
        Weight of the cycle and bypass terms, equation (1).
    adversarial_weight : float
        Weight of the adversarial terms, 1 in equation (1).
    fake_margin : float
        See :func:`losses.discriminator_loss`; margin 1 with adversarial weight 0.5 is margin 0 with weight 1.
    update_order : str
        'discriminators_first' (the authors' code) or 'generators_first' (the paper); H is always last.
    pseudo_noise, bypass, boosting, noise_consistency : bool
        Whether the losses hold the term of this name.
    discriminators_alone : int
        Iterations at the start in which only the discriminators learn: where F is taught already, a discriminator that
        knows nothing yet would teach it noise.
    amp : str
        'no', 'bf16' or 'fp16' (CUDA only): automatic mixed precision. The images that F, G and H return are then
        as coarse as the type, 2 ** -9 or 2 ** -12 of the window at its ends.
    grad_scaler : GradScaler, optional
        Scales the losses of all three updates; 'fp16' needs one.
    compile_networks : bool
        Compile the networks with ``torch.compile`` (CUDA only): minutes at the start, faster steps.
    **engine : Any
        What ``monai.engines.Trainer`` takes.

    Raises
    ------
    ValueError
        If a choice is unknown, a switch needs H and no term trains it, or the device cannot do it.

    Notes
    -----
    A batch is a mapping with ``noisy`` and ``clean``, each (N, 1, H, W) float32 in HU. The output is a list
    with one mapping (MONAI's handlers, ``--tracking mlflow`` among them, look at the first item of a list) of
    scalars: ``loss`` (everything), the sums ``generator``, ``discriminator`` and ``extractor``, and their
    terms before weighting: ``adversarial_clean``, ``adversarial_noisy``, ``cycle``, ``bypass``; ``d_clean``,
    ``d_noisy``, ``boosting``; ``pseudo_noise``, ``noise_consistency``. A term that is off is missing.

    Where ``torchrun`` started several processes, each trains on its own batches; gradients and terms are averaged.
    The statistics of Batch-Instance Normalization stay those of a process, like those of a batch.
    """

    @mistakes_in_one_line
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
        adversarial_weight: float = 1.0,
        fake_margin: float = 0.0,
        update_order: str = UPDATE_ORDERS[0],
        pseudo_noise: bool = True,
        bypass: bool = True,
        boosting: bool = True,
        noise_consistency: bool = True,
        discriminators_alone: int = 0,
        amp: str = "no",
        grad_scaler: GradScaler | None = None,
        compile_networks: bool = False,
        **engine: Any,
    ) -> None:
        super().__init__(**engine)
        check_acceleration(self.state.device, amp, compile_networks)
        check_choices(update_order, bypass or boosting, pseudo_noise or noise_consistency)
        self.denoiser = denoiser
        self.f_network, self.h_network = denoiser.f, denoiser.h
        self.g_network, self.dx_network, self.dy_network = g_network, dx_network, dy_network
        self.fg_optimizer, self.d_optimizer, self.h_optimizer = fg_optimizer, d_optimizer, h_optimizer
        self.lambda_, self.adversarial_weight, self.fake_margin = lambda_, adversarial_weight, fake_margin
        self.generators_first = update_order == "generators_first"
        self.pseudo_noise, self.noise_consistency = pseudo_noise, noise_consistency
        self.bypass, self.boosting = bypass, boosting
        self.discriminators_alone = discriminators_alone
        self.amp_type = AMP_TYPES[amp]
        self.grad_scaler = grad_scaler or GradScaler(self.state.device.type, enabled=False)
        for network in self.networks if compile_networks else ():
            network.compile()

    def run(self) -> None:
        """Train to the last iteration; where a checkpoint has reached it already, do nothing (ignite starts anew)."""
        last = self.state.max_epochs * self.state.epoch_length
        if self.state.iteration < last:
            distributed.share(self._weights())
            super().run()
        else:
            self.logger.info(f"nothing left to do: iteration {self.state.iteration} of {last}")

    def _weights(self) -> Iterator[Tensor]:
        for network in self.networks:
            yield from network.parameters()
            yield from network.buffers()
        for optimizer in (self.d_optimizer, self.h_optimizer):
            if isinstance(optimizer, Lookahead):
                yield from optimizer.slow

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """F, G, H, DX, DY."""
        return self.f_network, self.g_network, self.h_network, self.dx_network, self.dy_network

    def _iteration(self, engine: Engine, batchdata: Mapping[str, Tensor]) -> list[Terms]:
        x, y = (self._prepare(batchdata[key]) for key in ("noisy", "clean"))
        for network in self.networks:
            network.train()
        terms = self.step(x, y)
        distributed.average(terms.values())
        sums = [terms[name] for name in ("generator", "discriminator", "extractor") if name in terms]
        engine.state.output = [{CommonKeys.LOSS: torch.stack(sums).sum(), **terms}]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _prepare(self, hu: Tensor) -> Tensor:
        on_device = hu.to(self.state.device, non_blocking=self.non_blocking)
        return self.denoiser.window.to_unit(on_device).contiguous(memory_format=torch.channels_last)

    @property
    def trains_extractor(self) -> bool:
        """Whether H takes part at all."""
        return self.pseudo_noise or self.noise_consistency

    def step(self, x: Tensor, y: Tensor) -> Terms:
        """One iteration of Algorithm 1 on x noisy and y clean, both (N, 1, H, W) in [-1, 1].

        Returns
        -------
        dict of str to Tensor
            The loss terms, detached scalars.
        """
        f_of_x, g_of_y = self._call(self.f_network, x), self._call(self.g_network, y)
        noise = self._call(self.h_network, x) if self.trains_extractor else torch.zeros_like(x)
        terms: Terms = {}
        if 0 < self.state.iteration <= self.discriminators_alone:
            terms = self._update_discriminators(x, y, f_of_x.detach(), g_of_y.detach(), noise.detach())
            self.grad_scaler.update()
            return {name: term.detach() for name, term in terms.items()}
        if not self.generators_first:
            terms |= self._update_discriminators(x, y, f_of_x.detach(), g_of_y.detach(), noise.detach())
        terms |= self._update_generators(x, y, f_of_x, g_of_y, noise.detach())
        if self.generators_first or self.trains_extractor:
            with torch.no_grad():  # F and G have changed
                f_of_x, g_of_y = self._call(self.f_network, x), self._call(self.g_network, y)
        if self.generators_first:
            terms |= self._update_discriminators(x, y, f_of_x, g_of_y, noise.detach())
        if self.trains_extractor:
            terms |= self._update_extractor(x, y, f_of_x, g_of_y, noise)
        self.grad_scaler.update()
        return {name: term.detach() for name, term in terms.items()}

    def _update_discriminators(self, x: Tensor, y: Tensor, f_of_x: Tensor, g_of_y: Tensor, noise: Tensor) -> Terms:
        dx, dy, margin = partial(self._call, self.dx_network), partial(self._call, self.dy_network), self.fake_margin
        terms = {
            "d_clean": losses.discriminator_loss(dy(y), dy(f_of_x), margin),
            "d_noisy": losses.discriminator_loss(dx(x), dx(g_of_y), margin),
        }
        if self.boosting:
            noisier, cleaner = losses.boosting_loss(dx(y + noise), margin), losses.boosting_loss(dy(x - noise), margin)
            terms["boosting"] = noisier + cleaner
        loss = total(terms)
        self._descend(loss, self.d_optimizer, self.dx_network, self.dy_network)
        return {"discriminator": loss, **terms}

    def _update_generators(self, x: Tensor, y: Tensor, f_of_x: Tensor, g_of_y: Tensor, noise: Tensor) -> Terms:
        f, g = partial(self._call, self.f_network), partial(self._call, self.g_network)
        with frozen(self.dx_network, self.dy_network):
            clean = losses.adversarial_loss(self._call(self.dy_network, f_of_x))
            noisy = losses.adversarial_loss(self._call(self.dx_network, g_of_y))
        cycle = losses.cycle_loss(x, g(f_of_x), y, f(g_of_y))
        terms = {"adversarial_clean": clean, "adversarial_noisy": noisy, "cycle": cycle}
        if self.bypass:
            terms["bypass"] = losses.bypass_loss(x, y, noise, f_of_x, f(y + noise))
        bypass = terms.get("bypass", 0.0)
        loss = losses.generator_loss(clean + noisy, cycle, bypass, self.lambda_, self.adversarial_weight)
        self._descend(loss, self.fg_optimizer, self.f_network, self.g_network)
        return {"generator": loss, **terms}

    def _update_extractor(self, x: Tensor, y: Tensor, f_of_x: Tensor, g_of_y: Tensor, noise: Tensor) -> Terms:
        terms = {}
        if self.pseudo_noise:
            terms["pseudo_noise"] = losses.pseudo_noise_loss(x, noise, f_of_x)
        if self.noise_consistency:
            terms["noise_consistency"] = losses.noise_consistency_loss(y, g_of_y, self._call(self.h_network, g_of_y))
        loss = total(terms)
        self._descend(loss, self.h_optimizer, self.h_network)
        return {"extractor": loss, **terms}

    def _call(self, network: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.amp_type, enabled=self.amp_type != torch.float32):
            return network(images).to(images.dtype)

    def _descend(self, loss: Tensor, optimizer: Optimizer, *networks: nn.Module) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.grad_scaler.scale(loss).backward()
        gradients = (p.grad for network in networks for p in network.parameters())
        distributed.average(gradient for gradient in gradients if gradient is not None)
        self.grad_scaler.step(optimizer)
        for network in networks:
            clip_gates(network)


def check_choices(update_order: str, needs_extractor: bool, trains_extractor: bool) -> None:
    """Refuse an unknown order of the updates, and terms that need H where nothing trains it.

    Raises
    ------
    ValueError
        With what there is.
    """
    if update_order not in UPDATE_ORDERS:
        raise ValueError(f"update_order is {update_order!r}; there are {', '.join(UPDATE_ORDERS)}")
    if needs_extractor and not trains_extractor:
        raise ValueError("bypass and boosting need H: switch on pseudo_noise, or both of them off")


def check_acceleration(device: torch.device, amp: str, compile_networks: bool) -> None:
    """Refuse what the device cannot do, or would do slower.

    Raises
    ------
    ValueError
        With the argument and what to write instead.
    """
    if amp not in AMP_TYPES:
        raise ValueError(f"--amp is {amp}; there are {', '.join(AMP_TYPES)}")
    if device.type != "cuda" and (amp == "fp16" or compile_networks):
        argument, instead = ("--amp fp16", "no") if amp == "fp16" else ("--compile True", "False")
        raise ValueError(
            f"{argument} needs a CUDA GPU and this device is {device}; write {argument.split()[0]} {instead}"
        )


def total(terms: Terms) -> Tensor:
    """The sum of all terms, equations (7) and (12)."""
    return torch.stack(list(terms.values())).sum()


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
