"""Several processes, one per GPU: what they exchange in a training.

``DistributedDataParallel`` averages gradients while ``backward`` runs, and expects one backward for every forward of a
network in training. Here a forward of F or G serves two updates, and the discriminators pass gradients on to F and G
while they are frozen, so that it would need ``no_sync``, unused-parameter searches and unwrapped calls. All gradients
of an update are averaged in one message between ``backward`` and the optimizer's step instead, which is the same mean.
Without a process group every function does nothing.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed


def several_processes() -> bool:
    """Whether ``torchrun`` started more than one, and they know each other."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all processes; they must give the same shapes in the same order."""
    if not several_processes():
        return
    tensors = list(tensors)
    message = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(message)
    message /= distributed.get_world_size()
    for tensor, mean in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


@torch.no_grad()
def share(tensors: Iterable[Tensor]) -> None:
    """Give all processes the tensors of rank 0."""
    if several_processes():
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)
