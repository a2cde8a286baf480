"""An exponential moving average of the weights of a network in training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """The moving average of a network's parameters and buffers, including batch-norm statistics.

    Update n sets it to decay · average + (1 - decay) · weights, where the decay is
    min(`decay`, (1 + n) / (10 + n)), so that the random initial weights are soon forgotten.
    Integer tensors are copied from the network.

    Args:
        network: its current weights are the average after `count` updates.
        decay: between 0 and 1.
        count: the number of updates so far.
    """

    def __init__(self, network: nn.Module, decay: float, count: int = 0) -> None:
        self.network, self.decay = network, decay
        self._model = AveragedModel(network, multi_avg_fn=self._average, use_buffers=True)
        self._model.n_averaged.fill_(count)

    @property
    def count(self) -> int:
        """The number of updates so far."""
        return int(self._model.n_averaged)

    def update(self) -> None:
        """Add the network's current weights to the average."""
        self._model.update_parameters(self.network)

    @torch.no_grad()
    def _average(
        self, averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor
    ) -> None:
        """Update the tensors of one type."""
        if averages[0].is_floating_point():
            decay = min(self.decay, (1 + int(count)) / (10 + int(count)))
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:
            torch._foreach_copy_(averages, weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While active, the network's weights are the average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        own, averages = (
            chain(m.parameters(), m.buffers()) for m in (self.network, self._model.module)
        )
        for one, other in zip(own, averages, strict=True):
            one.data, other.data = other.data, one.data
