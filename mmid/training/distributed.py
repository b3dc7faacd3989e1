"""One training run by several processes, as torchrun starts them: each has a part of each batch.

Conventions: a process is known by its rank; rank 0 alone writes files. A run that torchrun did not
start has one rank, and nothing here changes it. What is averaged or gathered is of the same shape
in every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmid.errors import MmidError

PATIENCE = timedelta(days=2)
"""How long a rank waits for others, which may be rendering a corpus."""

Given = TypeVar("Given")


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the ranks that torchrun started, if it did.

    Parameters
    ----------
    device : torch.device
        GPUs talk by NCCL, CPUs by gloo.

    Yields
    ------
    torch.device
        This rank's: of several GPUs of a machine, its own.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    gpu = device.type == "cuda"
    if gpu:
        device = torch.device("cuda", dist.get_node_local_rank())
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def one_first() -> Iterator[None]:
    """Let one process of each machine go first, and fill the caches that the others then find."""
    late = ranks() > 1 and dist.get_node_local_rank() > 0
    if late:
        dist.barrier()
    yield
    if ranks() > 1 and not late:
        dist.barrier()


def agreed(value: float, device: torch.device) -> float:
    """Return what rank 0 has."""
    if ranks() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared.item())


def averaged(value: Tensor) -> float:
    """Return the mean over all ranks."""
    if ranks() == 1:
        return float(value.item())
    mean = value.detach().clone()
    dist.all_reduce(mean)
    return float(mean.item()) / ranks()


def gathered(part: Tensor) -> Tensor:
    """Return the rows of all ranks, one after another; gradients find their way back."""
    if ranks() == 1:
        return part
    rows: Tensor = _Gathered.apply(part)  # type: ignore[no-untyped-call]
    return rows


class _Gathered(torch.autograd.Function):
    """The rows of all ranks; a row's gradient is the sum of those that all ranks have for it."""

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        own = part.contiguous()
        parts = [torch.empty_like(own) for _ in range(ranks())]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        [total] = (gradient.clone() for gradient in gradients)
        dist.all_reduce(total)
        return total.chunk(ranks())[rank()]


class _Summed(torch.autograd.Function):
    """The sum over all ranks, and of their gradients."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        [total] = (gradient.clone() for gradient in gradients)
        dist.all_reduce(total)
        return total


def part_of(batch: int) -> slice:
    """Return which rows of a batch are this rank's.

    Raises
    ------
    MmidError
        If the batch cannot be shared out evenly.
    """
    if ranks() == 1:
        return slice(None)
    if batch % ranks():
        raise MmidError(f"a batch of {batch} cannot be shared by {ranks()} ranks: give --batch")
    size = batch // ranks()
    return slice(rank() * size, (rank() + 1) * size)


class SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of all ranks, on any device.

    It is what ``nn.BatchNorm`` would do with all their parts in one batch; ``nn.SyncBatchNorm`` is
    for GPUs only.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[batch, channels, ...]``."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None
        rest = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        values = input.float()
        mean = _mean(values, rest)
        apart = values - mean.view(shape)
        variance = _mean(apart.square(), rest)
        count = ranks() * input.numel() / input.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scaled = apart * (variance + self.eps).rsqrt().view(shape)
        shifted: Tensor = scaled * self.weight.view(shape) + self.bias.view(shape)
        return shifted.to(input.dtype)


def _mean(values: Tensor, axes: list[int]) -> Tensor:
    """Return the mean over some axes and all ranks."""
    total: Tensor = _Summed.apply(values.mean(axes))  # type: ignore[no-untyped-call]
    return total / ranks()


def share_statistics(network: nn.Module) -> None:
    """Have the batch norms of a network count all ranks; in a run of one, leave it as it is."""
    if ranks() == 1:
        return
    for name, layer in network.named_children():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            shared = SharedNorm(layer.num_features, layer.eps, layer.momentum)
            shared.load_state_dict(layer.state_dict())
            shared.requires_grad_(layer.weight.requires_grad)
            setattr(network, name, shared.to(layer.weight.device))
        else:
            share_statistics(layer)


class _Loss(nn.Module):
    """A loss as a module, for gradients to be averaged on their way back through it."""

    def __init__(self, network: nn.Module, loss: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, batch: Any) -> Tensor:
        return self._loss(batch)


def shared_loss(
    network: nn.Module, loss: Callable[[Given], Tensor], *, all_used: bool = True
) -> Callable[[Given], Tensor]:
    """Return a loss whose gradients are the mean over all ranks.

    Parameters
    ----------
    network : nn.Module
        What the loss depends on.
    loss : callable
        Gives the loss of this rank's part of a batch.
    all_used : bool
        Whether every parameter has a part in it.
    """
    if ranks() == 1:
        return loss
    return DistributedDataParallel(_Loss(network, loss), find_unused_parameters=not all_used)
