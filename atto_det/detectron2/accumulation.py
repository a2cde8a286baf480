"""Training on a batch in parts, whose gradients add up."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from atto_det.training.batches import parts_of

Losses = dict[str, Tensor]


class Accumulating(nn.Module):
    """A model under training that takes a batch in parts, and has the memory of one.

    All parts but the last have been backpropagated when its losses are returned, those of the last
    are not; their values are the means over the parts. Gradients must be zeroed before.

    Args:
        model: from a list of pictures to losses.
        count: of the parts, into which a batch must be divisible.
        backward: backpropagates a loss.
    """

    def __init__(
        self, model: nn.Module, count: int, backward: Callable[[Tensor], None] = Tensor.backward
    ) -> None:
        super().__init__()
        self.model, self.count, self.backward = model, count, backward

    def forward(self, batch: list[dict]) -> Losses | list[dict]:
        """Losses in training; in evaluation what the model gives."""
        if not self.training:
            return self.model(batch)
        *earlier, last = parts_of(batch, self.count)
        spent: Losses = {}
        for part in earlier:
            distributed = isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if distributed else nullcontext():  # once, with the last
                losses = self._share(part)
                with torch.autocast("cuda", enabled=False):
                    self.backward(sum(losses.values()))
            spent = {key: spent.get(key, 0) + value.detach() for key, value in losses.items()}
        return {key: value + spent[key] for key, value in self._share(last).items()}

    def _share(self, part: list[dict]) -> Losses:
        """What a part adds to the mean."""
        return {key: value / self.count for key, value in self.model(part).items()}
