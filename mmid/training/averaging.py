"""The running mean of a network's weights while it learns, which is better than the last of them.

Conventions: the mean is exponential; what is no floating-point number is the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The mean weights of a network.

    Parameters
    ----------
    network : nn.Module
        As it is when its training begins.
    decay : float
        What a step leaves of the mean before it, at most: early on, when weights change much, it
        leaves less.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.steps = 0
        self.tensors = {name: t.detach().clone() for name, t in network.state_dict().items()}

    @torch.no_grad()
    def add(self) -> None:
        """Count in the weights after a step."""
        decay = min(self._decay, (1 + self.steps) / (20 + self.steps))
        for name, tensor in self._network.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - decay)
            else:
                self.tensors[name].copy_(tensor)
        self.steps += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network its mean weights, and then those it had."""
        own = {name: t.detach().clone() for name, t in self._network.state_dict().items()}
        self._network.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Go on from what was stored."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
        self.steps = steps
